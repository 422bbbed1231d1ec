// The recording, drawn as its readers know it, with what is marked on it.

import { html, svg } from "./elements.js";
import * as features from "./features.js";
import * as image from "./image.js";
import { choices, marksOf } from "./marks.js";
import * as spectrogram from "./spectrogram.js";
import * as trace from "./trace.js";
import * as twelveLeads from "./twelve_leads.js";
import { number } from "./words.js";

const DRAWINGS = { twelve_leads: twelveLeads, trace, image, features, spectrogram };

/** The figure of an answer: what to mark, the drawing, its legend and sentences. Drawn anew whenever its
 * width or a choice changes. Returns a function that stops that. */
export function figure(place, answer) {
  const { recording } = answer;
  const drawing = DRAWINGS[recording.drawing] ?? trace;
  const marks = choices(answer);
  const chosen = { mark: Object.keys(marks)[0], layout: null };
  const noun = recording.drawing === "features" ? "row" : "recording";
  const canvas = html("div", { class: "canvas" });
  const words = html("div", { class: "sentences", "aria-live": "polite" });
  const update = () => {
    const width = canvas.clientWidth;
    if (!width) return;
    const layout = chosen.layout ?? drawing.layoutFor?.(width);
    for (const radio of controls.querySelectorAll("input")) radio.checked = radio.value === layout;
    const found = marksOf(answer, chosen.mark);
    const left = canvas.querySelector(".scroll")?.scrollLeft ?? 0;
    canvas.replaceChildren(drawing.draw(recording, found, width, layout));
    if (left) canvas.querySelector(".scroll").scrollLeft = left;
    canvas.append(...legends(recording, found, canvas, layout));
    const said = sentences(answer, drawing, found, layout).map((text) => html("p", {}, text));
    if (words.textContent !== said.map((one) => one.textContent).join("")) words.replaceChildren(...said);
  };
  const controls = controlsOf(drawing, marks, chosen, update);
  place.replaceChildren(html("h3", {}, `The ${noun}, as the model saw it`), controls, canvas, words);
  let seen = 0;
  const observer = new ResizeObserver(() => {
    if (Math.abs(canvas.clientWidth - seen) > 1) {
      seen = canvas.clientWidth;
      update();
    }
  });
  observer.observe(canvas);
  return () => observer.disconnect();
}

function controlsOf(drawing, marks, chosen, update) {
  const select = html(
    "select",
    {
      id: "mark",
      change: () => {
        chosen.mark = select.value;
        update();
      },
    },
    ...Object.entries(marks).map(([value, words]) => html("option", { value }, words)),
  );
  const field = html("div", {}, html("label", { for: "mark" }, "Mark on it"), select);
  return html(
    "div",
    { class: "controls" },
    Object.keys(marks).length ? field : null,
    drawing.layouts ? layoutChoice(drawing.layouts, chosen, update) : null,
  );
}

function layoutChoice(layouts, chosen, update) {
  return html(
    "fieldset",
    {},
    html("legend", {}, "Layout"),
    ...Object.entries(layouts).map(([value, words]) =>
      html(
        "label",
        {},
        html("input", {
          type: "radio",
          name: "layout",
          value,
          change: () => {
            chosen.layout = value;
            update();
          },
        }),
        words,
      ),
    ),
  );
}

function legends(recording, marks, canvas, layout) {
  const { drawing } = recording;
  const ground = { spectrogram: "dark", image: "dark", twelve_leads: "paper" }[drawing] ?? "page";
  const written = drawing === "features" || (drawing === "spectrogram" && marks.kind === "error");
  const line = drawing === "trace" || (drawing === "twelve_leads" && marks.kind === "error");
  const swatch = svg(
    "svg",
    { class: `on-${ground}`, width: 32, height: 14, "aria-hidden": "true" },
    svg("rect", { class: `${ground}-ground`, width: 32, height: 14 }),
    svg("path", { class: "copy", d: "M0 7H32" }),
  );
  const copy = html("div", { class: "key" }, swatch, "what the model makes of it");
  const caption = DRAWINGS[drawing]?.caption?.(recording, layout);
  const beyond = canvas.querySelector(".scroll");
  const scroll = beyond?.scrollWidth > beyond?.clientWidth + 1
    ? " The paper can be scrolled sideways."
    : "";
  return [
    caption ? html("p", { class: "quiet" }, caption + scroll) : null,
    written ? null : marks.legend(ground),
    line && recording.reconstruction ? copy : null,
  ].filter(Boolean);
}

function sentences(answer, drawing, marks, layout) {
  const { recording } = answer;
  const found = [...marks.words];
  if (marks.strongest && recording.drawing !== "features") {
    const seen = !drawing.shows || drawing.shows(marks.strongest, recording, layout);
    found[0] += seen
      ? " It is outlined."
      : ` This layout does not show it: choose “${drawing.layouts.rows}”.`;
  }
  if (recording.cut) {
    const length = recording.samples.length / (recording.sampling_rate || 1);
    const unit = recording.sampling_rate ? " s" : " samples";
    found.push(`Only the first ${number(length)}${unit} are drawn; the answer is about all of it.`);
  }
  return found;
}
