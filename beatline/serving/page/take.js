// What can be taken along: the question as a command of curl, and the answer as a file.

import { html } from "./elements.js";
import { token } from "./service.js";

const SHOWN = '-H "Authorization: Bearer $BEATLINE_TOKEN"';

/** Buttons for both. `request`: what was sent to the model `key`; `example`: its address, if it is one. */
export function takeAlong(key, request, answer, example) {
  const command = curl(key, request, example);
  const shown = html("pre", { class: "command", hidden: true }, command);
  const copied = html("p", { class: "quiet", "aria-live": "polite" });
  const copy = async () => {
    shown.hidden = false;
    try {
      await navigator.clipboard.writeText(command); // which is there on localhost and over TLS alone
      copied.textContent = "Copied:";
    } catch {
      getSelection().selectAllChildren(shown);
      copied.textContent = "The browser does not let this page copy. Copy the selected text:";
    }
  };
  const download = () => save(`${key.replace("/", "-")}.json`, JSON.stringify(answer, null, 1));
  return [
    html(
      "div",
      { class: "controls" },
      html("button", { type: "button", click: copy }, "Copy as curl"),
      html("button", { type: "button", click: download }, "Download the answer"),
    ),
    copied,
    shown,
  ];
}

/** The request as commands for a shell, in the folder in which the files lie. */
export function curl(key, { headers, body }, example) {
  const address = (path) => quoted(new URL(path, document.baseURI).href);
  const ask = `curl ${address(`models/${key}/predict`)}`;
  const said = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  const lines = [];
  const shown = token() ? [SHOWN] : []; // never the token itself
  said.push(...shown);
  if (example) lines.push([`curl ${address(example)} -o example.npy`, ...shown].join(" "));
  lines.push([ask, ...said, ...sent(body)].join(" \\\n  "));
  return lines.join("\n");
}

function sent(body) {
  if (typeof body === "string") return [`--data-raw ${quoted(body)}`];
  if (body instanceof File) return [`--data-binary ${quoted(`@${body.name}`)}`];
  if (!(body instanceof FormData)) return ["--data-binary @example.npy"];
  const name = (file) => file.name.replace(/[\\"]/g, "\\$&");
  return [...body.values()].map((file) => `-F ${quoted(`files=@"${name(file)}"`)}`);
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function save(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  html("a", { href: address, download: name }).click();
  URL.revokeObjectURL(address);
}
