// Numbers and places in words.

import { extent } from "./numbers.js";

/** A probability in percent: never 0 or 100, which no model can know. */
export function percent(value) {
  if (value < 0.0005) return "<\u00a00.1\u00a0%";
  if (value > 0.9995) return ">\u00a099.9\u00a0%";
  return `${(100 * value).toFixed(1)}\u00a0%`; // no line ends before the sign
}

/** Three digits, as far as they tell something. */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "missing";
  const text = Number(value.toPrecision(3));
  return (Math.abs(text) >= 1e6 || (text && Math.abs(text) < 1e-4) ? value.toExponential(2) : `${text}`)
    .replace("-", "−");
}

/** `a`, `a and b`, `a, b and c`. */
export function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

const SUPERCLASSES = {
  NORM: "normal ECG",
  MI: "myocardial infarction",
  STTC: "ST/T change",
  CD: "conduction disturbance",
  HYP: "hypertrophy",
};

/** What a class stands for, or null: the diagnostic superclasses of ECGs (Wagner et al. 2020), where all
 * `classes` are some of them. Other names stand for themselves. */
export function spelledOut(name, classes) {
  const known = classes.length > 1 && classes.every((one) => Object.hasOwn(SUPERCLASSES, one));
  return known ? SUPERCLASSES[name] : null;
}

/** Whether a recording may be a person's. Those of an unknown kind may. */
export function ofPeople(drawing) {
  return drawing !== "image" && drawing !== "spectrogram";
}

/** The first letter as a sentence begins. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A lead as cardiologists write it: `AVR` is aVR. */
export function leadName(channel) {
  return channel.replace(/^AV([RLF])$/i, (_, letter) => `aV${letter.toUpperCase()}`);
}

/** The centre frequency of a channel called as `mel band 12 (281 Hz)`, or null. */
export function hertz(channel) {
  const found = channel.match(/\(([\d.]+) Hz\)/);
  return found && Number(found[1]);
}

/** Where a part of a recording lies. `part`: `start`, `end` in s, or in steps where the recording has no
 * sampling rate, and `channels`, null for all. */
export function place(part, recording) {
  const where = channelsOf(part, recording);
  if (recording.drawing === "features") return where;
  return [where, when(part, recording)].filter(Boolean).join(", ");
}

/** Its channels alone; nothing if there is but one. */
export function channelsOf({ channels }, recording) {
  const { drawing, channels: all } = recording;
  return (CHANNELS[drawing] ?? CHANNELS.trace)(channels ?? all, all);
}

/** Its time alone. Steps count from 1. */
export function when(part, recording) {
  if (recording.sampling_rate) return `${part.start.toFixed(2)} to ${part.end.toFixed(2)} s`;
  const step = recording.drawing === "image" ? "row" : "sample";
  return span(step, Math.floor(part.start) + 1, Math.max(Math.ceil(part.end), part.start + 1));
}

function span(what, first, last) {
  return first === last ? `${what} ${first}` : `${what}s ${first} to ${last}`;
}

const CHANNELS = {
  twelve_leads(names, all) {
    if (names.length === all.length) return "all leads";
    return `lead${names.length > 1 ? "s" : ""} ${list(names.map(leadName))}`;
  },
  trace: (names, all) => (all.length > 1 ? list(names) : ""),
  features: (names) => list(names),
  image: (names, all) => spans("column", names, all),
  spectrogram(names, all) {
    if (names.length === all.length) return "all mel bands";
    const tones = names.map(hertz);
    const bands = spans("mel band", names, all);
    if (tones.includes(null)) return bands;
    const [low, high] = extent(tones);
    return `${bands} (${low === high ? low : `${low} to ${high}`} Hz)`;
  },
};

/** Neighbours are named by the first and the last of them. */
function spans(what, names, all) {
  const found = runs(names, all);
  if (found.length === 1) return span(what, ...found[0]);
  return `${what}s ${list(found.map(([a, b]) => (a === b ? `${a}` : `${a} to ${b}`)))}`;
}

/** The first and the last of each run of neighbours among `names`: places in `all`, counted from 1. */
export function runs(names, all) {
  const found = [];
  for (const at of names.map((name) => all.indexOf(name) + 1).sort((a, b) => a - b)) {
    if (found.at(-1)?.[1] === at - 1) found.at(-1)[1] = at;
    else found.push([at, at]);
  }
  return found;
}
