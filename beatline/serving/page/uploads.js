// From files to a request.

import { Refused } from "./service.js";
import { list } from "./words.js";

const TYPES = {
  wav: "audio/wav",
  flac: "audio/flac",
  ogg: "audio/ogg",
  mp3: "audio/mpeg",
  npy: "application/x-npy",
  csv: "text/csv",
  tsv: "text/csv",
  txt: "text/csv",
  json: "application/json",
  zip: "application/zip",
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
};
const FORMATS = {
  sound: "WAV, FLAC, Ogg or MP3; or NPY, CSV, JSON.",
  twelve_leads: "DICOM, SCP-ECG, EDF, ISHNE, MFER, MAT; XML of GE MUSE, Philips, HL7 aECG or Mortara; a WFDB " +
    "record (its .hea and .dat together, or both in one ZIP); or CSV, NPY, JSON.",
  image: "PNG or JPEG; or NPY, CSV, JSON.",
  features: "CSV with a line of feature names, JSON or NPY.",
};

/** What can be sent to a model, in words. */
export function formats(input) {
  return FORMATS[input.sound ? "sound" : input.drawing] ?? "CSV, NPY, JSON, EDF, MAT or a WFDB record.";
}

/** One file as the body, or as a form if its name may be needed to tell what it is; a WFDB record's files as a
 * form. Raises Refused if something is missing. */
export async function requestOf(files, fields) {
  const names = files.map((file) => file.name);
  const headers = fieldHeaders(fields);
  if (!files.length) throw new Refused("Nothing was dropped that is a file.");
  await checkTogether(files);
  const type = TYPES[extension(names[0])];
  if (files.length > 1 || !type) {
    const body = new FormData();
    for (const file of files) body.append("files", file, file.name);
    return { headers, body };
  }
  headers["Content-Type"] = type;
  return { headers, body: files[0] };
}

/** A row of features: `text` is JSON, an object by name or a list. Raises Refused if it is not. */
export function rowRequest(text) {
  let row;
  try {
    row = JSON.parse(text);
  } catch (error) {
    throw new Refused(`The row is not JSON: ${error.message}.`);
  }
  if (row === null || typeof row !== "object") {
    throw new Refused("The row is neither an object by feature name nor a list.");
  }
  if (!Array.isArray(row) && !("signal" in row)) {
    const columns = Object.entries(row).map(([name, value]) => [name, [value]]);
    row = { signal: Object.fromEntries(columns) };
  } else if (Array.isArray(row) && !Array.isArray(row[0])) row = [row];
  return { headers: { "Content-Type": "application/json" }, body: JSON.stringify(row) };
}

function fieldHeaders({ rate, unit }) {
  const headers = {};
  if (rate.trim()) headers["X-Sampling-Rate"] = checkedRate(rate.trim().replace(",", "."));
  // Headers hold no Greek letters, and µ has two code points: WFDB writes uV as well.
  const plain = unit.trim().replace(/[µμ]/g, "u");
  if (/[^\x20-\x7e]/.test(plain)) throw new Refused(`The unit “${unit.trim()}” is not known.`);
  if (plain) headers["X-Unit"] = plain;
  return headers;
}

function checkedRate(rate) {
  if (Number(rate) > 0 && Number.isFinite(Number(rate))) return rate;
  throw new Refused(`The sampling rate “${rate}” is not a number of Hz above 0.`);
}

function extension(name) {
  return name.split(".").at(-1).toLowerCase();
}

/** Raises Refused unless the files are one recording: one file, or a header with what it names. */
async function checkTogether(files) {
  const header = files.find((file) => extension(file.name) === "hea");
  if (header) {
    const present = files.map((file) => file.name);
    const missing = (await signalFiles(header)).filter((name) => !present.includes(name));
    if (missing.length) {
      throw new Refused(
        `${header.name} is the header of a WFDB record; its samples are in ${list(missing)}, which ` +
          "was not chosen. Choose both files together.",
      );
    }
  } else if (files.some((file) => extension(file.name) === "dat")) {
    const record = files.find((file) => extension(file.name) === "dat").name;
    throw new Refused(
      `${record} holds the samples of a WFDB record; what they mean is in ` +
        `${record.replace(/dat$/i, "hea")}, which was not chosen. Choose both files together.`,
    );
  } else if (files.length > 1) {
    throw new Refused(
      "These are several files. Choose one recording at a time: one file, or the .hea and .dat of " +
        "one WFDB record.",
    );
  }
}

/** The files that a WFDB header names, each once: the first word of a line per signal. */
async function signalFiles(header) {
  const lines = (await header.text()).split(/\r?\n/).filter((line) => line && !line.startsWith("#"));
  const named = lines.slice(1).map((line) => line.trim().split(/\s+/)[0]);
  return [...new Set(named)].filter((name) => name && name !== "~");
}
