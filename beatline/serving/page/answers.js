// An answer in words and in numbers.

import { html, svg } from "./elements.js";
import { list, number, ofPeople, percent, spelledOut } from "./words.js";

const BAR = 220;

/** The decision in a sentence or two, and what to know about it. */
export function inWords(answer, source) {
  const { model, recording, warnings } = answer;
  const reserved = reservation(model.simulated, recording?.drawing);
  return [
    html("p", { class: "quiet" }, `${source}, asked of ${model.dataset} / ${model.name}.`),
    html("p", { class: "verdict" }, verdict(answer)),
    reserved ? html("p", { class: "small" }, reserved) : null,
    ...warningLists(warnings),
  ].filter(Boolean);
}

export function verdict(answer) {
  if ("score" in answer) {
    const { score, threshold, anomaly } = answer;
    return anomaly
      ? `Anomaly: the score ${number(score)} reaches the threshold ${number(threshold)}.`
      : `No anomaly: the score ${number(score)} is below the threshold ${number(threshold)}.`;
  }
  const { probabilities, thresholds, decisions } = answer;
  if ("class" in answer) return `Most probable: ${answer.class} (${percent(answer.probability)}).`;
  const names = Object.keys(probabilities);
  if (names.length === 1) {
    const [name] = names;
    const chance = percent(probabilities[name]);
    const threshold = percent(thresholds[name]);
    return decisions[name]
      ? `Decided for ${name}: ${chance} reaches the threshold of ${threshold}.`
      : `Decided against ${name}: ${chance} is below the threshold of ${threshold}.`;
  }
  const found = names.filter((name) => decisions[name]);
  if (!found.length) return "No class reaches its threshold.";
  const texts = found.map((name) => `${name} (${percent(probabilities[name])})`);
  const reach =
    found.length > 1 ? "these classes reach their thresholds" : "this class reaches its threshold";
  return `Decided for ${list(texts)}: ${reach}.`;
}

function reservation(simulated, drawing) {
  const about = { twelve_leads: "patients", spectrogram: "machines" }[drawing] ?? "patients or machines";
  return [
    ofPeople(drawing) ? "No medical device." : "",
    simulated
      ? `This model was trained on simulated data: its answers say nothing about real ${about}.`
      : "",
  ]
    .filter(Boolean)
    .join(" ");
}

/** What may make the answer wrong, and below it, quietly, what was done without harm. */
function warningLists(warnings) {
  const notes = warnings.filter(({ grade }) => grade === "note");
  const cautions = warnings.filter((warning) => !notes.includes(warning));
  return [
    remarks("cautions", cautions.length > 1 ? "Warnings" : "Warning", cautions),
    remarks("notes", "How the recording was prepared", notes),
  ];
}

function remarks(kind, title, warnings) {
  if (!warnings.length) return null;
  const items = warnings.map(({ message }) => html("li", {}, message));
  return html("div", { class: kind }, html("h3", {}, title), html("ul", {}, ...items));
}

/** Probabilities or the score, as a table with bars. */
export function inNumbers(answer) {
  return "score" in answer ? scoreTable(answer) : probabilityTable(answer);
}

function probabilityTable({ probabilities, thresholds, decisions, class: best }) {
  const rows = Object.entries(probabilities).map(([name, value], _, all) => {
    const stands = spelledOut(name, all.map(([other]) => other));
    const threshold = thresholds?.[name];
    const decided = decisions ? decisions[name] : name === best;
    const words = decisions ? (decided ? "yes" : "no") : decided ? "most probable" : "";
    return html(
      "tr",
      { class: decided ? "decided" : null },
      html("th", { scope: "row" }, name, stands ? html("small", {}, ` ${stands}`) : null),
      html("td", { class: "right" }, percent(value)),
      html("td", { class: "bar-cell", "aria-hidden": "true" }, bar(value, threshold, decided)),
      thresholds ? html("td", { class: "right" }, percent(threshold)) : null,
      html("td", {}, words),
    );
  });
  const columns = ["class", "probability", null, thresholds ? "threshold" : undefined,
    thresholds ? "decided" : "decision"];
  return table("Probabilities", columns, rows);
}

function scoreTable({ score, threshold, anomaly }) {
  const [low, high] = [Math.min(0, score, threshold), Math.max(score, threshold) * 1.15 || 1];
  const share = (value) => (value - low) / (high - low);
  const drawn = bar(share(score), share(threshold), anomaly);
  const row = html(
    "tr",
    { class: anomaly ? "decided" : null },
    html("td", { class: "right" }, number(score)),
    html("td", { class: "bar-cell", "aria-hidden": "true" }, drawn),
    html("td", { class: "right" }, number(threshold)),
    html("td", {}, anomaly ? "anomaly" : "no anomaly"),
  );
  return table("Anomaly score", ["score", null, "threshold", "decision"], [row]);
}

function table(caption, columns, rows) {
  const head = columns
    .filter((name) => name !== undefined)
    .map((name) => (name === null ? html("td", { class: "bar-cell", "aria-hidden": "true" })
      : html("th", { scope: "col", class: NUMBERS.includes(name) ? "right" : null }, name)));
  return html(
    "div",
    { class: "table" },
    html(
      "table",
      {},
      html("caption", {}, caption),
      html("thead", {}, html("tr", {}, ...head)),
      html("tbody", {}, ...rows),
    ),
  );
}

const NUMBERS = ["probability", "threshold", "score"];

/** A bar of a share, with a line at the threshold. */
export function bar(share, threshold, decided) {
  return svg(
    "svg",
    { class: "bar", viewBox: `0 0 ${BAR} 16`, preserveAspectRatio: "none" },
    svg("rect", { class: "bar-ground", y: 3, width: BAR, height: 10 }),
    svg("rect", { class: decided ? "bar-decided" : "bar-value", y: 3, width: share * BAR, height: 10 }),
    threshold === undefined
      ? null
      : svg("path", { class: "bar-threshold", d: `M${threshold * BAR} 0V16` }),
  );
}
