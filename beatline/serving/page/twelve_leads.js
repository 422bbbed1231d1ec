// 12-lead ECGs as cardiologists expect them: paper true to scale.
//
// Electrocardiographs worldwide print 25 mm per second and 10 mm per mV on paper ruled at 1 and 5 mm
// (Kligfield et al. 2007, AHA/ACC/HRS recommendations for the standardization and interpretation of the
// electrocardiogram, Circulation 115:1306). The layout is that of beatline/drawings/twelve_leads.py.

import { errorLine } from "./axes.js";
import { html, path, svg } from "./elements.js";
import { shade } from "./marks.js";
import { extent } from "./numbers.js";
import { capital, leadName, number } from "./words.js";

const [MM_PER_SECOND, MM_PER_MV] = [25, 10];
const COLUMNS = [["I", "II", "III"], ["aVR", "aVL", "aVF"], ["V1", "V2", "V3"], ["V4", "V5", "V6"]];
const RHYTHM_LEAD = "II";
const [SECONDS, COLUMN_SECONDS] = [10, 2.5];
// In mm, as all that follow: of the paper, and of the baselines on it.
const [PAPER_WIDTH, SIGNAL_LEFT, ROW_HEIGHT, ROW_MARGIN] = [270, 15, 30, 20];
const CLOSE_ROWS = 25; // where all twelve leads stand below each other
const [PULSE_LEFT, PULSE_WIDTH] = [5, 5]; // a calibration pulse of 1 mV, 0.2 s wide
const ERROR_ROW = 14;
const MOST_MARGIN = 120; // what is higher is no heartbeat, and is cut off
// Whole pixels, so that every line of the grid is equally sharp.
const [WIDE, NARROW] = [4, 3];
const ROOM = 700; // pixels below which twelve rows, which can be scrolled, are easier to read

export const layouts = {
  paper: "3 × 4 leads and a rhythm strip",
  rows: "12 leads below each other",
};

/** The layout that is easier to read in so many pixels. */
export function layoutFor(width) {
  return width < ROOM ? "rows" : "paper";
}

export function describe(recording) {
  const seconds = recording.samples.length / recording.sampling_rate;
  return `ECG with ${recording.channels.length} leads, ${number(seconds)} s at ` +
    `${recording.sampling_rate} Hz, on paper with 25 mm/s and 10 mm/mV`;
}

/** How to read the paper, and what is not on it. */
export function caption(recording, layout) {
  const left = leftOut(recording, layout);
  return (
    `25 mm/s, 10 mm/mV, ${recording.sampling_rate} Hz. A large square is 0.2 s wide and 0.5 mV high; the ` +
    "box at the left of each row is 1 mV for 0.2 s." +
    (left ? ` ${capital(left)}: choose “${layouts.rows}” to see the rest.` : "")
  );
}

/** In words what a layout leaves out of a recording; nothing if it shows all the time there is. */
function leftOut({ samples, sampling_rate: rate }, layout) {
  const seconds = samples.length / rate;
  if (layout === "rows" || seconds < SECONDS + 0.05) return "";
  return `only the first ${SECONDS} s of ${number(seconds)} s are shown`;
}

/** What the layout shows of each lead: `row`, `from` and `to` in s. */
function pieces(recording, layout) {
  const end = recording.samples.length / recording.sampling_rate;
  const names = recording.channels.map(leadName);
  const wanted = COLUMNS.flat().filter((name) => names.includes(name));
  if (layout === "rows") {
    return wanted.map((name, row) => ({ name, row, from: 0, to: end }));
  }
  const short = COLUMNS.flatMap((column, place) =>
    column.map((name, row) => ({
      name,
      row,
      from: place * COLUMN_SECONDS,
      to: (place + 1) * COLUMN_SECONDS,
    })),
  );
  const rhythm = { name: RHYTHM_LEAD, row: 3, from: 0, to: SECONDS };
  return [...short, rhythm].filter(({ name }) => names.includes(name));
}

/** Whether a layout shows a part of a recording, if only the middle of it. */
export function shows(part, recording, layout) {
  const names = (part.channels ?? recording.channels).map(leadName);
  const middle = (part.start + part.end) / 2;
  return pieces(recording, layout).some(
    ({ name, from, to }) => names.includes(name) && from <= middle && middle < to,
  );
}

export function draw(recording, marks, width, layout) {
  const shown = pieces(recording, layout).map((piece) => ({
    ...piece,
    samples: part(recording, piece),
  }));
  const paper = sheet(recording, shown, layout, width, marks);
  const copied = marks.kind === "error" && recording.reconstruction;
  const copy = copied && { ...recording, samples: recording.reconstruction };
  const drawn = [
    ...grid(paper),
    ...shown.flatMap((piece) => cells(piece, recording, marks, paper)),
    ...pulses(shown, paper),
    ...(copy ? shown : []).map((piece) =>
      line({ ...piece, samples: part(copy, piece) }, copy, paper, "copy"),
    ),
    ...shown.flatMap((piece) => lead(piece, recording, paper, layout)),
    ...outline(shown, recording, marks, paper),
    marks.line && errorRow(marks, paper),
  ];
  const size = { width: paper.width * paper.mm, height: paper.height * paper.mm };
  const picture = svg(
    "svg",
    {
      class: "paper",
      role: "img",
      "aria-label": [describe(recording), layouts[layout], leftOut(recording, layout)]
        .filter(Boolean)
        .join("; "),
      viewBox: `0 0 ${size.width} ${size.height}`,
      ...size,
    },
    ...drawn,
  );
  picture.style.setProperty("--printed", `${paper.width}mm`);
  const names = layout === "rows" ? stickyNames(shown, paper, size.height) : null;
  return html(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "ECG, to be scrolled sideways" },
    html("div", { class: "paper-holder" }, names, picture),
  );
}

/** Samples in mV of a lead from `from` to `to` s and the one after, so that neighbours join. */
function part(recording, { name, from, to }) {
  const rate = recording.sampling_rate;
  const column = recording.channels.findIndex((channel) => leadName(channel) === name);
  const scale = { uv: 0.001, v: 1000 }[recording.unit.toLowerCase()] ?? 1;
  return recording.samples
    .slice(Math.round(from * rate), Math.round(to * rate) + 1)
    .map((row) => (row[column] === null ? null : row[column] * scale));
}

/** The paper's measures. What rises above the first row or falls below the last makes it higher. */
function sheet(recording, shown, layout, width, marks) {
  const rows = extent(shown.map(({ row }) => row))[1] + 1;
  const rowHeight = layout === "rows" ? CLOSE_ROWS : ROW_HEIGHT;
  const above = margin(shown, (row) => row * rowHeight, 1);
  const below = margin(shown, (row) => (rows - 1 - row) * rowHeight, -1);
  const seconds = recording.samples.length / recording.sampling_rate;
  const ruled = above + (rows - 1) * rowHeight + below;
  const full = SIGNAL_LEFT + Math.ceil(seconds * 5) * 5 + 5;
  return {
    mm: width < ROOM ? NARROW : WIDE,
    rowHeight,
    above,
    ruled,
    width: layout === "rows" ? full : PAPER_WIDTH,
    height: ruled + (marks.line ? ERROR_ROW + 4 : 0),
    seconds: layout === "rows" ? seconds : SECONDS,
  };
}

/** Whole large squares that hold what every row needs beyond its distance from the paper's edge. */
function margin(shown, distance, sign) {
  let most = ROW_MARGIN;
  for (const { row, samples } of shown) {
    const highest = samples.reduce((best, value) => Math.max(best, sign * value), 0);
    most = Math.max(most, Math.ceil((highest * MM_PER_MV - distance(row) + 2) / 5) * 5);
  }
  return Math.min(most, MOST_MARGIN);
}

function grid({ mm, width, ruled, height }) {
  const lines = (step) => {
    let found = "";
    for (let x = 0; x <= width; x += step) found += `M${x * mm + 0.5} 0V${ruled * mm}`;
    for (let y = 0; y <= ruled; y += step) found += `M0 ${y * mm + 0.5}H${width * mm}`;
    return found;
  };
  return [
    svg("rect", { class: "paper-ground", width: width * mm, height: height * mm }),
    svg("path", { class: "minor", d: lines(1) }),
    svg("path", { class: "major", d: lines(5) }),
  ];
}

function x(seconds, paper) {
  return (SIGNAL_LEFT + seconds * MM_PER_SECOND) * paper.mm;
}

function baseline(row, paper) {
  return (paper.above + row * paper.rowHeight) * paper.mm;
}

function line({ name, row, from, samples }, recording, paper, kind) {
  const zero = baseline(row, paper);
  const points = samples.map(
    (value, step) =>
      value !== null && [
        x(from + step / recording.sampling_rate, paper),
        zero - value * MM_PER_MV * paper.mm,
      ],
  );
  return svg("path", { class: kind, "data-lead": name, "data-zero": zero, d: path(points) });
}

function lead(piece, recording, paper, layout) {
  const { name, row, from, samples } = piece;
  const zero = baseline(row, paper);
  const left = x(from, paper);
  const bar = `M${left} ${zero - 4 * paper.mm}V${zero + 4 * paper.mm}`;
  const words = { class: "lead-name", x: left + 1.5 * paper.mm, y: zero - 11 * paper.mm };
  return [
    line(piece, recording, paper, "lead"),
    from > 0 && samples.length ? svg("path", { class: "ink", d: bar }) : null,
    layout === "rows" ? null : svg("text", words, name),
  ];
}

function pulses(shown, paper) {
  return [...new Set(shown.map(({ row }) => row))].map((row) => {
    const { mm } = paper;
    const start = `M${(PULSE_LEFT - 1.5) * mm} ${baseline(row, paper)}`;
    const high = MM_PER_MV * mm;
    return svg("path", {
      class: "ink calibration",
      d: `${start}h${1.5 * mm}v${-high}h${PULSE_WIDTH * mm}v${high}h${1.5 * mm}`,
    });
  });
}

// ---------------------------------------------------------------- marks

/** The part of a mark that a piece of the layout shows: a box in pixels, or null. */
function box(mark, piece, recording, paper) {
  const named = !mark.channels || mark.channels.some((channel) => leadName(channel) === piece.name);
  const start = Math.max(mark.start, piece.from);
  const end = Math.min(mark.end, piece.to, recording.samples.length / recording.sampling_rate);
  if (!named || start >= end) return null;
  const height = Math.min(paper.rowHeight, 22) * paper.mm;
  return {
    x: x(start, paper),
    y: baseline(piece.row, paper) - 0.55 * height,
    width: (end - start) * MM_PER_SECOND * paper.mm,
    height,
  };
}

function cells(piece, recording, marks, paper) {
  return marks.cells.map((cell) => {
    const place = box(cell, piece, recording, paper);
    return place && svg("rect", { ...place, ...shade(cell, marks.kind) });
  });
}

function outline(shown, recording, marks, paper) {
  if (!marks.strongest) return [];
  return shown.map((piece) => {
    const place = box(marks.strongest, piece, recording, paper);
    return place && svg("rect", { ...place, class: "strongest" });
  });
}

function errorRow(marks, paper) {
  const bottom = (paper.height - 2) * paper.mm;
  const cells = marks.line.cells.filter(({ end }) => end <= paper.seconds + 1e-6);
  const height = (ERROR_ROW - 3) * paper.mm;
  const words = { class: "lead-name small", x: 1.5 * paper.mm, y: bottom - 2 * paper.mm };
  return svg(
    "g",
    {},
    errorLine({ ...marks.line, cells }, (seconds) => x(seconds, paper), bottom, height),
    svg("path", { class: "ink", d: `M${x(0, paper)} ${bottom}H${x(paper.seconds, paper)}` }),
    svg("text", words, marks.line.label),
  );
}

/** The names of the leads, which stay in sight when the paper is scrolled. */
function stickyNames(shown, paper, height) {
  return svg(
    "svg",
    { class: "names", width: 12 * paper.mm, height, "aria-hidden": "true" },
    shown.map(({ name, row }) => {
      const y = baseline(row, paper) - 11 * paper.mm;
      return svg("text", { class: "lead-name", x: 1.5 * paper.mm, y }, name);
    }),
  );
}
