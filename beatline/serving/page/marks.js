// What is marked on a recording: where an error is high, or what moved the decision.

import { html, svg } from "./elements.js";
import { extent } from "./numbers.js";
import { capital, channelsOf, number, place, when } from "./words.js";

const STRONGEST = 0.62; // opacity of the strongest mark, through which a trace can still be read
const TOO_LITTLE = 0.001; // of a probability or of the threshold: nothing to be seen in a picture

/** What can be marked, in words by name; the first one is marked when an answer comes in. */
export function choices(answer) {
  const classes = Object.keys(answer.explanation?.importance ?? {});
  const found = {};
  // Of a row, a detector tells no part.
  if (answer.error?.over_time && answer.recording?.drawing !== "features") {
    found.error = `where the ${errorOf(answer)} is high`;
  }
  for (const name of ordered(classes, answer)) {
    found[`for ${name}`] = name === "score" ? "what raises or lowers the score"
      : `what speaks for or against ${name}`;
  }
  if (Object.keys(found).length) found.nothing = "nothing";
  return found;
}

/** What a detector measures over time. */
function errorOf({ error }) {
  return error.measures === "distance" ? "distance from normal recordings" : "error";
}

/** Classes with the decided and the most probable first. */
function ordered(classes, { probabilities, decisions }) {
  if (!probabilities) return classes;
  const weight = (name) => probabilities[name] + (decisions?.[name] ? 1 : 0);
  return [...classes].sort((a, b) => weight(b) - weight(a));
}

/** Marks: `cells` of `start`, `end` (in s, or in steps of a recording without a sampling rate),
 * `channels` (null: all), `strength` from -1 to 1 and `value`; `strongest`: the part to outline, or
 * null; `line`: the error over time, or null; `profile`: the error by channel, or null; `words`: what
 * there is to say; `legend(ground)`: an element, on paper, the page's ground or dark. */
export function marksOf(answer, choice) {
  if (choice === "error") return errorMarks(answer);
  if (choice?.startsWith("for ")) return importanceMarks(answer, choice.slice(4));
  return { cells: [], strongest: null, line: null, profile: null, words: [], legend: () => null };
}

// ---------------------------------------------------------------- error

function errorMarks(answer) {
  const { error, recording } = answer;
  const name = errorOf(answer);
  const scale = scaled(error.unit, recording);
  const parts = error.over_time;
  const [, largest] = extent(parts.value);
  const cells = parts.value.map((value, number) => ({
    ...scale({ start: parts.start[number], end: parts.end[number] }),
    channels: null,
    strength: largest > 0 ? Math.max(value / largest, 0) : 0,
    value,
  }));
  const named = error.highest.channels?.length > 0;
  const strongest = { ...scale(error.highest), channels: named ? error.highest.channels : null };
  const where = named ? `in ${place(strongest, recording)}` : `from ${when(strongest, recording)}`;
  return {
    kind: "error",
    cells,
    strongest,
    line: { cells, largest, label: name.split(" ")[0] },
    profile: error.over_channels,
    words: [`The ${name} is highest ${where}.`, ...worstChannels(error, recording)],
    legend: (ground) => gradient(["none", "error-mark"], ["0", number(largest)], name, ground),
  };
}

/** Over the whole recording, the few channels with the largest error. */
function worstChannels({ over_channels: errors }, recording) {
  if (recording.drawing !== "twelve_leads" || !errors) return [];
  const channels = Object.keys(errors).sort((a, b) => errors[b] - errors[a]).slice(0, 3);
  return [`Over the whole recording it is largest in ${channelsOf({ channels }, recording)}.`];
}

// ---------------------------------------------------------------- importance

function importanceMarks(answer, name) {
  const { explanation, recording } = answer;
  const scale = scaled(explanation.unit, recording);
  const cells = explanation.importance[name].flatMap((row, step) =>
    row.map((value, group) => ({
      ...scale({ start: explanation.start[step], end: explanation.end[step] }),
      channels: explanation.channels[group],
      value,
    })),
  );
  const [, largest] = extent([0, ...cells.map((cell) => Math.abs(cell.value))]);
  const visible = largest > TOO_LITTLE * (name === "score" ? Math.abs(answer.threshold) : 1);
  for (const cell of cells) cell.strength = visible ? cell.value / largest : 0;
  const top = cells.reduce((best, cell) => (cell.value > best.value ? cell : best), cells[0]);
  const bottom = cells.reduce((best, cell) => (cell.value < best.value ? cell : best), cells[0]);
  return {
    kind: "importance",
    cells: cells.filter((cell) => Math.abs(cell.strength) > 0.02),
    strongest: visible ? (top.value >= -bottom.value ? top : bottom) : null,
    line: null,
    profile: null,
    name,
    words: [...importanceWords(name, visible, top, bottom, recording),
      `${capital(explanation.method.replace(/\.$/, ""))}.`],
    legend: (ground) => (visible ? importanceLegend(name, largest, ground) : null),
  };
}

/** The strongest part first. */
function importanceWords(name, visible, top, bottom, recording) {
  const what = name === "score" ? "the score" : `the probability of ${name}`;
  if (!visible) return [`No single part moves ${what} by an amount worth showing.`];
  const [raises, lowers] = name === "score"
    ? ["raises the score most", "lowers the score most"]
    : [`speaks most for ${name}`, `speaks most against ${name}`];
  const sentence = (cell, verb, moves) =>
    `What ${verb}: ${place(cell, recording)} (without it, ${what} ${moves} by ` +
    `${amount(name, Math.abs(cell.value))}).`;
  const found = [
    [top.value, () => sentence(top, raises, "falls")],
    [-bottom.value, () => sentence(bottom, lowers, "rises")],
  ].sort(([one], [other]) => other - one);
  const worth = 0.05 * found[0][0];
  return found.filter(([value]) => value > worth).map(([, words]) => words());
}

function amount(name, value) {
  return name === "score" ? number(value) : `${number(100 * value)} percentage points`;
}

function importanceLegend(name, largest, ground) {
  const [most, label] = name === "score"
    ? [largest, "lowers ↔ raises the score"]
    : [100 * largest, `against ↔ for ${name}, in percentage points`];
  const ends = [`−${number(most)}`, "0", `+${number(most)}`];
  return gradient(["against-mark", "none", "for-mark"], ends, label, ground);
}

// ---------------------------------------------------------------- drawing

/** From an answer's unit of time to that of the recording's axis. */
function scaled(unit, { sampling_rate: rate }) {
  const factor = unit === "step" && rate ? 1 / rate : 1;
  return (part) => ({ ...part, start: part.start * factor, end: part.end * factor });
}

/** The class of a cell and its opacity, as attributes. */
export function shade(cell, kind) {
  return {
    class: kind === "error" ? "error-mark" : cell.strength < 0 ? "against-mark" : "for-mark",
    "fill-opacity": (STRONGEST * Math.abs(cell.strength)).toFixed(3),
  };
}

let gradients = 0;

/** A bar of colours from left to right, on the same `ground` as the marks, with a text above and texts
 * below. */
function gradient(classes, texts, label, ground) {
  const id = `gradient-${(gradients += 1)}`;
  const stops = classes.map((name, place) =>
    svg("stop", {
      class: name,
      offset: place / (classes.length - 1),
      "stop-opacity": name === "none" ? 0 : STRONGEST,
    }),
  );
  const size = { width: 180, height: 14 };
  const bar = svg(
    "svg",
    { ...size, class: `on-${ground}`, "aria-hidden": "true" },
    svg("linearGradient", { id }, ...stops),
    svg("rect", { ...size, class: `${ground}-ground` }),
    svg("rect", { ...size, fill: `url(#${id})` }),
  );
  const ends = html("span", { class: "ends" }, texts.map((text) => html("span", {}, text)));
  return html("div", { class: "legend" }, html("span", {}, label), bar, ends);
}
