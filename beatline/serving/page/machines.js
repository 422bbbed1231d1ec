// The page of machines: all of them with their alarms, and the history of the one that is chosen.

import { bar } from "./answers.js";
import { html } from "./elements.js";
import { describe, draw } from "./history.js";
import { machineHistory, machines, Refused, UNKNOWN } from "./service.js";
import { tokenForm } from "./token.js";
import { list, number } from "./words.js";

const at = (id) => document.getElementById(id);
const AGAIN = 15_000; // milliseconds until the machines are looked at again
const UNITS = [["d", 86_400], ["h", 3600], ["min", 60]];
const state = { machines: [], chosen: null, stop: () => {} };

async function look() {
  try {
    show(await machines());
    at("problem").replaceChildren();
    if (!at("machine").hidden) await showHistory(state.chosen);
  } catch (error) {
    showProblem(error);
  }
}

function show({ machines: found, left_out: left, alarm }) {
  state.machines = found;
  const focused = document.activeElement?.dataset?.machine;
  at("machines").replaceChildren(...(found.length ? table(found, alarm) : []));
  [...at("machines").querySelectorAll("button")]
    .find(({ dataset }) => dataset.machine === focused)?.focus();
  const status = summary(found, left);
  if (at("status").textContent !== status) at("status").textContent = status;
  if (state.chosen) showFeatures();
}

function summary(found, left) {
  if (!found.length) {
    return "No detector was asked about a machine yet: send a sound with the header X-Machine-Id.";
  }
  const names = found.filter((one) => one.open_alarms).map(({ machine }) => machine);
  const alarms = names.length > 5 ? `${names.length} machines` : list(names);
  const more = left ? ` ${left} more are not shown.` : "";
  return (names.length ? `Open alarms: ${alarms}.` : "No alarm is open.") + more;
}

// ---------------------------------------------------------------- all machines

function table(found, alarm) {
  const names = ["machine", "alarm", "score", "threshold", "", "anomalies", "detector", "last asked"];
  const head = names.map((name) => name
    ? html("th", { scope: "col", class: /score|thresh|anom/.test(name) ? "right" : null }, name)
    : html("td", { class: "bar-cell" }));
  const words = `An alarm is open while at least ${alarm.anomalies} of a detector's last ` +
    `${alarm.answers} answers are anomalies.`;
  return [
    html("p", { class: "quiet" }, words),
    html(
      "div",
      { class: "table" },
      html(
        "table",
        {},
        html("caption", {}, "What detectors said last"),
        html("thead", {}, html("tr", {}, head)),
        html("tbody", {}, found.map(rows)),
      ),
    ),
  ];
}

function rows(machine) {
  const { machine: name, detectors } = machine;
  return detectors.map((detector, place) => html(
    "tr",
    { class: detector.alarm ? "decided" : null },
    place ? null : html("th", { scope: "rowgroup", rowspan: detectors.length }, choice(name)),
    html("td", {}, detector.alarm ? html("strong", { class: "alarm" }, "open") : "none"),
    html("td", { class: "right" }, number(detector.score)),
    html("td", { class: "right" }, number(detector.threshold)),
    html("td", { class: "bar-cell", "aria-hidden": "true" }, share(detector)),
    html("td", { class: "right" }, `${detector.anomalies} of ${detector.answers}`),
    html("td", {}, `${detector.dataset} / ${detector.model}`),
    html("td", {}, ago(detector.age_seconds)),
  ));
}

function choice(name) {
  const click = () => {
    location.hash = encodeURIComponent(name);
  };
  const pressed = String(name === state.chosen);
  return html("button", { type: "button", "data-machine": name, "aria-pressed": pressed, click }, name);
}

/** The score as a bar whose threshold is in the middle. */
function share({ score, threshold, anomaly }) {
  return threshold > 0 ? bar(Math.min(Math.max(score / threshold / 2, 0), 1), 0.5, anomaly) : null;
}

function ago(seconds) {
  const [unit, length] = UNITS.find(([, one]) => seconds >= 2 * one) ?? ["s", 1];
  return `${Math.max(Math.floor(seconds / length), 0)}\u00a0${unit} ago`;
}

// ---------------------------------------------------------------- one machine

async function choose() {
  state.chosen = decodeURIComponent(location.hash.slice(1)) || null;
  for (const button of at("machines").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.machine === state.chosen));
  }
  state.stop();
  at("machine").hidden = true;
  if (!state.chosen) return;
  const name = state.chosen;
  try {
    if (!(await showHistory(name))) return;
    at("problem").replaceChildren();
    showFeatures();
    at("machine-heading").focus();
  } catch (error) {
    showProblem(error);
  }
}

/** Returns whether the machine is still the one that is chosen. */
async function showHistory(name) {
  const { series } = await machineHistory(name);
  if (name !== state.chosen) return false;
  state.stop();
  at("machine-heading").textContent = name;
  at("machine").hidden = false;
  state.stop = showHistories(series);
  return true;
}

/** Draw each detector's history, anew when the width changes. Returns a function that stops that. */
function showHistories(series) {
  const figures = series.map((one) => {
    const canvas = html("div", { class: "canvas" });
    const heading = html("h3", {}, `${one.dataset} / ${one.model}`);
    return { one, canvas, parts: [heading, canvas, html("p", { class: "small" }, `${describe(one)}.`)] };
  });
  const legend = html("p", { class: "quiet" },
    "Line: scores. Dashed: the threshold of the time. Dots: anomalies.");
  at("histories").replaceChildren(...figures.flatMap(({ parts }) => parts), legend);
  const update = () => {
    for (const { one, canvas } of figures) {
      if (canvas.clientWidth) canvas.replaceChildren(draw(one, canvas.clientWidth));
    }
  };
  let seen = 0;
  const observer = new ResizeObserver(() => {
    const width = at("histories").clientWidth;
    if (Math.abs(width - seen) > 1) {
      seen = width;
      update();
    }
  });
  observer.observe(at("histories"));
  return () => observer.disconnect();
}

function showFeatures() {
  const found = state.machines.find(({ machine }) => machine === state.chosen);
  const measured = found?.features ? Object.entries(found.features) : [];
  const rows = measured.map(([name, value]) => html(
    "tr",
    {},
    html("th", { scope: "row" }, name.replaceAll("_", " ")),
    html("td", { class: "right" }, number(value)),
  ));
  const words = () => `Measured ${ago(found.features_age_seconds)}`;
  at("measured").replaceChildren(...(rows.length ? [
    html("h3", {}, "Last features"),
    html("div", { class: "table" },
      html("table", {}, html("caption", {}, words()), html("tbody", {}, rows))),
  ] : []));
}

// ---------------------------------------------------------------- mistakes

function showProblem(error) {
  if (!(error instanceof Refused)) console.error(error);
  const message = error instanceof Refused ? error.message
    : `This page made a mistake: ${error.message}. Load it again.`;
  const nothing = error.status === 404 && !state.chosen
    ? "This server keeps no log of answers: name one by monitoring.log of params.yaml." : null;
  at("problem").replaceChildren(
    html("strong", {}, "Machines are not known."),
    html("p", {}, nothing ?? message),
    error.status === UNKNOWN ? tokenForm(start)
      : html("button", { type: "button", click: start }, "Try again"),
  );
}

async function start() {
  await look();
  await choose();
}

addEventListener("hashchange", choose);
addEventListener("unhandledrejection", ({ reason }) => showProblem(reason));
const lookIfSeen = () => document.hidden || at("token") || look(); // nor while a token is typed
setInterval(lookIfSeen, AGAIN);
addEventListener("visibilitychange", lookIfSeen);
start();
