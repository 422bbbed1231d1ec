// The page: choose a model, hand it a recording, read its answer.

import { inNumbers, inWords, verdict } from "./answers.js";
import { figure } from "./drawings.js";
import { html } from "./elements.js";
import { description, fill, keyOf } from "./models.js";
import {
  exampleAddress, exampleRequest, examples, models, predict, Refused, UNKNOWN,
} from "./service.js";
import { takeAlong } from "./take.js";
import { tokenForm } from "./token.js";
import { formats, requestOf, rowRequest } from "./uploads.js";
import { list, ofPeople } from "./words.js";

const at = (id) => document.getElementById(id);
const state = {
  models: [],
  model: null, // the chosen one
  // What was asked last: `make` a request, `source` in words, the `files` it is of, the `example`
  // that it is.
  last: null,
  asking: null, // an AbortController while an answer is awaited
  stop: () => {}, // ends the drawing of the answer that is shown
};

// ---------------------------------------------------------------- models

async function start() {
  clearProblem();
  document.body.setAttribute("aria-busy", "true");
  try {
    state.models = await models();
  } catch (error) {
    showProblem("The models are not known.", error, start);
    return;
  } finally {
    document.body.removeAttribute("aria-busy");
  }
  fill(at("model"), at("unavailable"), state.models);
  const usable = state.models.filter(({ available }) => available);
  if (!usable.length) {
    const reason = state.models[0]?.reason ?? "None has been trained yet: run dvc repro.";
    showProblem("There is no model to ask.", new Refused(reason), start);
    return;
  }
  at("model").disabled = at("files").disabled = false;
  await chooseOfHash();
}

/** Choose the model that the address names behind `#`; if it cannot be asked, say why. */
async function chooseOfHash() {
  const key = location.hash.slice(1);
  const found = state.models.find((model) => keyOf(model) === key);
  if (found?.available) return choose(found);
  await choose(state.model ?? state.models.find(({ available }) => available));
  if (!key) return;
  const reason = found?.reason ?? "there is no such model.";
  showProblem("That model cannot be asked.", new Refused(`${key}: ${reason}`));
}

async function choose(model) {
  history.replaceState(null, "", `#${keyOf(model)}`);
  if (model === state.model) return;
  const before = state.model;
  state.model = model;
  at("model").value = keyOf(model);
  at("description").replaceChildren(...description(model));
  at("formats").textContent = formats(model.input);
  at("device").hidden = !ofPeople(model.input.drawing);
  at("row").hidden = model.input.drawing !== "features";
  clearProblem();
  if (before?.dataset !== model.dataset) {
    forget();
    await offerExamples(model);
  } else if (state.last) await ask(state.last);
}

/** A recording of another data set means nothing to the new model. */
function forget() {
  state.asking?.abort();
  state.last = null;
  state.stop();
  offerAgain(null);
  at("answer").hidden = at("examples").hidden = true;
  at("examples-problem").replaceChildren();
  at("status").textContent = "";
  at("files").value = "";
  at("values").value = "";
}

async function offerExamples(model) {
  let [found, refused] = [[], null];
  try {
    found = await examples(keyOf(model));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    refused = error;
  }
  if (model.dataset !== state.model.dataset) return;
  const choices = found.map((example) => {
    const click = () => askExample(example);
    return html("li", {}, html("button", { type: "button", click }, ...named(example)));
  });
  at("examples").querySelector("ul").replaceChildren(...choices);
  at("examples").hidden = !found.length;
  const problem = at("examples-problem");
  const retried = problem.contains(document.activeElement);
  problem.replaceChildren(...(refused ? withoutExamples(refused, model) : []));
  if (retried) [problem, at("examples"), at("drop")].map(first).find(Boolean).focus();
}

/** The first control of a place that is shown. */
function first(place) {
  return place.hidden ? null : place.querySelector("button, input");
}

/** Why there are no examples to choose from, and a button that looks for them again. */
function withoutExamples({ message }, model) {
  const click = () => offerExamples(model);
  return [
    html("strong", {}, "The examples cannot be listed."),
    html("p", {}, message),
    html("button", { type: "button", click }, "Look for examples again"),
  ];
}

function named({ name, record, labels }) {
  const words = `labelled ${truth(labels)}`;
  return [html("strong", {}, `Example ${name}`), html("span", {}, words), html("small", {}, record)];
}

/** What an example is known to be, in words. */
function truth(labels) {
  const { classes } = state.model;
  if (labels.length) return list(labels);
  return classes.length === 1 ? `no ${classes[0]}` : "with no class";
}

// ---------------------------------------------------------------- asking

function askFiles(files) {
  if (!state.model) return;
  const fields = () => ({ rate: at("rate").value, unit: at("unit").value });
  const names = list(files.map(({ name }) => name));
  ask({ make: () => requestOf(files, fields()), source: names || "nothing", files });
}

function askExample(example) {
  const { name, record, labels } = example;
  ask({
    make: () => exampleRequest(keyOf(state.model), example),
    source: `Example ${name}, the test record ${record} labelled ${truth(labels)}`,
    example,
  });
}

/** Ask the chosen model; what was asked before and has no answer yet is given up. */
async function ask(question) {
  state.asking?.abort();
  const asking = new AbortController();
  Object.assign(state, { asking, last: question });
  clearProblem();
  offerAgain(question.files);
  busy(true);
  at("status").className = "quiet";
  at("status").textContent = `Asking ${keyOf(state.model)} …`;
  try {
    const request = await question.make();
    if (asking.signal.aborted) return;
    const answer = await predict(keyOf(state.model), request, asking.signal);
    if (asking.signal.aborted) return;
    show(answer, question, request);
  } catch (error) {
    if (asking.signal.aborted) return;
    at("status").textContent = "";
    at("answer").hidden = true;
    showProblem("There is no answer.", error, error.again ? () => ask(question) : null);
    if (question.files && /sampling[ -]rate/i.test(error.message)) pointAtRate();
  }
  busy(false);
}

/** The button that sends the same files again, with the fields beside it as they are then. */
function offerAgain(files) {
  at("again").hidden = !files?.length;
  if (files?.length) at("again").textContent = `Send ${list(files.map(({ name }) => name))} again`;
}

function busy(waiting) {
  document.querySelector("main").toggleAttribute("data-waiting", waiting);
  at("answer").setAttribute("aria-busy", String(waiting));
}

function show(answer, question, request) {
  state.stop();
  at("answer").hidden = false;
  at("status").className = "spoken"; // the answer below says the same
  at("status").textContent = `Answered. ${verdict(answer)}`;
  at("words").replaceChildren(...inWords(answer, question.source));
  at("numbers").replaceChildren(inNumbers(answer));
  state.stop = answer.recording ? figure(at("figure"), answer) : () => {};
  const { example } = question;
  const key = keyOf(state.model);
  at("take").replaceChildren(
    ...takeAlong(key, request, answer, example && exampleAddress(key, example)),
  );
  if (example && !at("row").hidden) fillRow(answer.recording);
  at("answer-heading").focus({ preventScroll: true });
  at("answer").scrollIntoView({ behavior: quiet() ? "auto" : "smooth", block: "start" });
}

function fillRow({ channels, samples }) {
  const row = Object.fromEntries(channels.map((name, place) => [name, samples[0][place]]));
  at("values").value = JSON.stringify(row, null, 1);
}

function quiet() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

// ---------------------------------------------------------------- mistakes

function showProblem(title, error, again) {
  if (!(error instanceof Refused)) console.error(error);
  const message = error instanceof Refused ? error.message
    : `This page made a mistake: ${error.message}. Load it again.`;
  const button = error.status === UNKNOWN ? tokenForm(again)
    : again ? html("button", { type: "button", click: () => again() }, "Try again") : null;
  at("problem").replaceChildren(
    ...[html("strong", {}, title), html("p", {}, message), button].filter(Boolean),
  );
  at("problem").scrollIntoView({ behavior: quiet() ? "auto" : "smooth", block: "nearest" });
}

function clearProblem() {
  at("problem").replaceChildren();
  at("rate-problem").hidden = true;
  at("rate").removeAttribute("aria-invalid");
  at("rate").setAttribute("aria-describedby", "hint");
}

/** Leads to the field that a refusal is about. The alert says why; beside the field stands what to do. */
function pointAtRate() {
  const field = at("rate");
  at("unsaid").open = true;
  at("rate-problem").hidden = false;
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", "rate-problem hint");
  field.focus({ preventScroll: true });
  // Not at the edge of a small screen, so that what to do stands in sight.
  field.scrollIntoView({ behavior: quiet() ? "auto" : "smooth", block: "center" });
}

/** A mistake that nothing has caught, of the start or of a drawing: none is silent. */
function uncaught(event, error) {
  if (!error) return; // a ResizeObserver that will be called once more is none
  event.preventDefault();
  showProblem("Something went wrong.", error);
}

// ---------------------------------------------------------------- events

addEventListener("error", (event) => uncaught(event, event.error));
addEventListener("unhandledrejection", (event) => uncaught(event, event.reason));
at("model").addEventListener("change", ({ target }) => {
  choose(state.models.find((model) => keyOf(model) === target.value));
});
addEventListener("hashchange", chooseOfHash);
at("files").addEventListener("change", ({ target }) => {
  const files = [...target.files];
  target.value = ""; // so that the same file can be chosen again
  if (files.length) askFiles(files);
});
at("fields").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.last?.files?.length) ask(state.last);
});
at("row").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("values").value;
  ask({ make: async () => rowRequest(text), source: "The row of features" });
});
// Wherever a file is dropped on the page, it must not replace the page.
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
});
for (const name of ["dragenter", "dragover"]) {
  at("drop").addEventListener(name, () => at("drop").classList.add("over"));
}
at("drop").addEventListener("dragleave", ({ relatedTarget }) => {
  if (!at("drop").contains(relatedTarget)) at("drop").classList.remove("over");
});
at("drop").addEventListener("drop", (event) => {
  event.preventDefault();
  askFiles([...event.dataTransfer.files]);
});

start();
