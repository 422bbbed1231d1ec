// The list of models, and what a model says of itself.

import { html } from "./elements.js";
import { capital, list, number, spelledOut } from "./words.js";

const METRICS = {
  auc: "AUC",
  pauc: "partial AUC",
  f1: "F1",
  brier: "Brier score",
  calibration_error: "calibration error",
};

const TASKS = {
  multilabel: (classes) => `decides for each of ${list(classes.map(withWords))} whether a recording shows it`,
  multiclass: (classes) => `tells which one of ${list(classes.map(withWords))} a recording is`,
  binary: (classes) => `decides whether a recording shows “${list(classes)}”`,
};

const DETECTORS = {
  error: "detects anomalies: it has learned to copy normal recordings, and what is not like them is not normal",
  distance: "detects anomalies: what is far from all normal recordings it has learned is not normal",
};

function withWords(name, _, classes) {
  const words = spelledOut(name, classes);
  return words ? `${name} (${words})` : name;
}

export function keyOf({ dataset, name }) {
  return `${dataset}/${name}`;
}

/** Options by data set; those that cannot be used are disabled, and say why in the list `reasons`. */
export function fill(select, reasons, models) {
  const groups = [...new Set(models.map(({ dataset }) => dataset))].map((dataset) =>
    html(
      "optgroup",
      { label: dataset },
      ...models.filter((model) => model.dataset === dataset).map(option),
    ),
  );
  select.replaceChildren(...groups);
  const missing = models.filter(({ available }) => !available);
  reasons.replaceChildren(
    ...missing.map((model) => html("li", {}, `${keyOf(model)} is not available: ${model.reason}`)),
  );
  reasons.hidden = !missing.length;
}

function option(model) {
  const words = `${model.dataset} / ${model.name}${model.available ? "" : " (not available)"}`;
  return html("option", { value: keyOf(model), disabled: !model.available }, words);
}

/** What a model is, what it takes, how good it is, and what made it. */
export function description(model) {
  const does = DETECTORS[model.measures] ?? TASKS[model.task]?.(model.classes) ?? model.task;
  return [
    html("p", {}, `${capital(model.title)}. The model ${does}.`),
    model.simulated
      ? html(
          "p",
          { class: "note" },
          html("strong", {}, "Trained on simulated data."),
          " Its answers say nothing about real patients or machines.",
        )
      : null,
    model.outdated ? outdated(model.outdated) : null,
    html(
      "details",
      {},
      html("summary", {}, "How good it is, what it takes, what made it"),
      html("div", {}, ...[metrics(model), facts(model)].filter(Boolean)),
    ),
  ].filter(Boolean);
}

/** `reason`: why what is on disk now could not be loaded. */
function outdated(reason) {
  return html(
    "p",
    { class: "note" },
    html("strong", {}, "Perhaps not the newest version."),
    ` What is on disk now could not be loaded: ${reason.replace(/\.$/, "")}. The model loaded before it ` +
      "goes on answering.",
  );
}

function metrics({ metrics: found }) {
  if (!found) return null;
  const rows = Object.entries(found).map(([name, metric]) =>
    html(
      "tr",
      {},
      html("th", { scope: "row" }, METRICS[name] ?? name.replaceAll("_", " ")),
      html("td", { class: "right" }, figures(metric?.value)),
      html("td", { class: "right" }, figures(metric?.low, metric?.high)),
    ),
  );
  const head = ["metric", "value", "interval"].map((name, place) =>
    html("th", { scope: "col", class: place ? "right" : null }, name),
  );
  return html(
    "div",
    { class: "table" },
    html(
      "table",
      {},
      html("caption", {}, "Measured on test records, with 95 % intervals"),
      html("thead", {}, html("tr", {}, ...head)),
      html("tbody", {}, ...rows),
    ),
  );
}

/** A metric is not defined where the test records lack what it needs, such as one of two classes. */
function figures(...values) {
  if (!values.every(Number.isFinite)) return "not defined";
  return values.map((value) => value.toFixed(3)).join(" to ");
}

function facts(model) {
  const { identity } = model;
  const revision = identity.revision
    ? `${identity.revision.slice(0, 7)}${identity.clean ? "" : ", with changes that are not committed"}`
    : "not known";
  const found = {
    takes: takes(model.input),
    parameters: model.parameters?.toLocaleString("en"),
    revision,
    "version in the registry": model.registered
      ? `${model.registered.version}, ${model.registered.alias}`
      : undefined,
    "SHA-256 of the weights": identity.weights?.slice(0, 12),
    data: identity.data?.slice(0, 12),
    source: model.citation,
  };
  return html(
    "dl",
    {},
    ...Object.entries(found)
      .filter(([, value]) => value)
      .flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, value)]),
  );
}

function takes({ shape: [steps, channels], shortest, whole, sampling_rate: rate, unit, drawing, sound }) {
  const bound = whole ? "exactly" : "at least";
  if (sound) {
    return `sound of ${bound} ${number(shortest / rate)} s, brought to ${sound.sampling_rate} Hz`;
  }
  if (drawing === "features") return `${channels} features`;
  if (drawing === "image") return `images of ${steps} × ${channels} pixels`;
  const length = rate ? `${number(shortest / rate)} s` : `${shortest} samples`;
  const leads = drawing === "twelve_leads" ? "leads" : "channels";
  const width = channels > 1 ? ` of ${channels} ${leads}` : "";
  return `${bound} ${length}${width}${rate ? ` at ${rate} Hz` : ""}, in ${unit}`;
}
