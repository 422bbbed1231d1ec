// Spectrograms as colours: time to the right, frequency in mel bands upwards.

import { ERROR_HEIGHT, errorLabel, errorLine, ticks, timeAxis, valueAxis } from "./axes.js";
import { html, svg } from "./elements.js";
import { shade } from "./marks.js";
import { extent } from "./numbers.js";
import { hertz, number, runs } from "./words.js";

const [LEFT, RIGHT, TOP, HEIGHT, AXIS] = [58, 12, 8, 260, 40];
const PROFILE = 46; // of the errors by band at the right, in pixels
const TICK_HZ = [16000, 8000, 4000, 2000, 1000, 500, 250, 125, 63, 31];
// Smith & van der Walt's magma at equal steps: perceptually uniform, so that equal steps in dB are
// equal steps in lightness. Below coloured marks levels are grey, so that a colour means one thing.
const MAGMA = ["000004", "140e36", "3b0f70", "641a80", "8c2981", "b73779", "de4968", "f7705c", "fe9f6d",
  "fecf92", "fcfdbf"].map(channelsOfHex);
const GREY = ["000000", "e8e8e8"].map(channelsOfHex);
const ERRORS = ["000000", "ff8c1a", "ffffff"].map(channelsOfHex);
const SMALLEST = 9; // pixels of an outline, so that it can be seen

function channelsOfHex(hex) {
  return [0, 2, 4].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}

export function describe(recording) {
  const { samples, sampling_rate: rate, channels } = recording;
  const length = rate ? `${number(samples.length / rate)} s` : `${samples.length} frames`;
  return `Spectrogram of ${length} in ${channels.length} mel bands`;
}

export function draw(recording, marks, width) {
  const limits = levels(recording.samples);
  const right = marks.profile ? RIGHT + PROFILE : RIGHT;
  const colours = marks.kind === "importance" ? GREY : MAGMA;
  const pictures = [picture(recording, recording.samples, marks, width - right, limits, colours)];
  const legends = [colourBar(limits, colours, `level (${recording.unit})`)];
  if (recording.reconstruction && marks.kind === "error") {
    const bare = { ...marks, cells: [], strongest: null, line: null, profile: null };
    const errors = squaredDifferences(recording);
    const largest = [0, levels(errors)[1]];
    pictures.push(
      html("h4", {}, "What the model makes of it"),
      picture(recording, recording.reconstruction, bare, width - right, limits, colours),
      html("h4", {}, "Squared difference"),
      picture(recording, errors, bare, width - right, largest, ERRORS),
    );
    legends.push(colourBar(largest, ERRORS, `squared difference (${recording.unit}²)`));
  }
  return html("div", {}, ...pictures, ...legends);
}

function squaredDifferences({ samples, reconstruction }) {
  return samples.map((row, frame) =>
    row.map((value, band) => {
      const copy = reconstruction[frame][band];
      return value === null || copy === null ? null : (value - copy) ** 2;
    }),
  );
}

function picture(recording, samples, marks, width, limits, colours) {
  const bands = recording.channels.length;
  const end = samples.length / (recording.sampling_rate || 1);
  const box = { left: LEFT, top: TOP, width: width - LEFT, bottom: TOP + HEIGHT };
  const x = (at) => box.left + (at / end) * box.width;
  const y = (band) => box.bottom - (band / bands) * HEIGHT;
  const lineBottom = box.bottom + 8 + ERROR_HEIGHT;
  const bottom = marks.line ? lineBottom : box.bottom;
  const overlay = svg(
    "svg",
    {
      class: "plot on-dark",
      role: "img",
      "aria-label": describe(recording),
      width: width + (marks.profile ? PROFILE + RIGHT : RIGHT),
      height: bottom + AXIS,
    },
    ...marks.cells
      .filter(({ channels }) => channels)
      .map((cell) => svg("rect", { ...place(cell, recording, x, y), ...shade(cell, marks.kind) })),
    outlines(marks.strongest, recording, x, y),
    marks.profile && profile(marks.profile, recording, { left: box.left + box.width + 6, y }),
    marks.line && errorLine(marks.line, x, lineBottom, ERROR_HEIGHT),
    marks.line && errorLabel(marks.line, LEFT, lineBottom),
    timeAxis({ ...box, bottom }, end, recording.sampling_rate ? "time (s)" : "frame"),
    valueAxis(box, frequencies(recording.channels, y), "mel band (Hz)"),
  );
  const canvas = painted(samples, bands, limits, colours);
  Object.assign(canvas.style, { left: `${LEFT}px`, top: `${TOP}px`, width: `${box.width}px`,
    height: `${HEIGHT}px` });
  return html("div", { class: "layers" }, canvas, overlay);
}

/** A box around a mark, from the lowest to the highest of its channels. */
function place({ start, end, channels }, recording, x, y) {
  const bands = (channels ?? recording.channels).map((name) => recording.channels.indexOf(name));
  const [low, high] = extent(bands);
  const [top, bottom] = [y(high + 1), y(low)];
  return { x: x(start), y: top, width: Math.max(x(end) - x(start), 1), height: bottom - top };
}

/** A box per run of neighbours among the channels of the strongest mark. */
function outlines(strongest, recording, x, y) {
  if (!strongest) return [];
  const all = recording.channels;
  return runs(strongest.channels ?? all, all).map(([first, last]) => {
    const found = place({ ...strongest, channels: all.slice(first - 1, last) }, recording, x, y);
    const [wide, high] = [found.width, found.height].map((size) => Math.max(SMALLEST - size, 0));
    return svg("rect", {
      class: "strongest",
      x: found.x - wide / 2,
      y: found.y - high / 2,
      width: found.width + wide,
      height: found.height + high,
    });
  });
}

/** The error of each band over the whole recording, beside the bands. */
function profile(errors, { channels }, { left, y }) {
  const [, largest] = extent(Object.values(errors));
  const bars = channels.map((name, band) => {
    const length = largest > 0 ? ((errors[name] ?? 0) / largest) * PROFILE : 0;
    return `M${left} ${y(band)}h${length.toFixed(2)}V${y(band + 1)}H${left}Z`;
  });
  return svg("path", { class: "error-line", d: bars.join("") });
}

/** A canvas with one pixel per frame and band, the lowest band at the bottom. */
function painted(samples, bands, [low, high], colours) {
  const canvas = html("canvas", { width: samples.length, height: bands, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(samples.length, bands);
  samples.forEach((row, frame) => {
    row.forEach((value, band) => {
      const at = 4 * ((bands - 1 - band) * samples.length + frame);
      if (value === null) return; // stays transparent
      image.data.set([...colour((value - low) / (high - low), colours), 255], at);
    });
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

function colour(share, colours) {
  const at = Math.min(Math.max(share, 0), 1) * (colours.length - 1);
  const first = Math.min(Math.floor(at), colours.length - 2);
  return colours[first].map((from, place) => from + (colours[first + 1][place] - from) * (at - first));
}

/** The levels that get the darkest and the lightest colour: nearly all lie between them. */
function levels(samples) {
  const sorted = samples.flat().filter((value) => value !== null).sort((a, b) => a - b);
  const quantile = (share) => sorted[Math.round(share * (sorted.length - 1))] ?? 0;
  const low = quantile(0.01);
  return [low, Math.max(quantile(0.999), low + 1e-6)];
}

/** Marks of an axis: round frequencies between bands that tell theirs, from the highest down while there
 * is room; of others their numbers. `y(band)` in pixels. */
function frequencies(channels, y) {
  const tones = channels.map(hertz);
  if (tones.includes(null) || tones.some((tone, band) => band && tone < tones[band - 1])) {
    return ticks(1, channels.length, 4).map((band) => [y(band - 0.5), `${band}`]);
  }
  const found = [];
  for (const tone of TICK_HZ) {
    const above = tones.findIndex((other) => other >= tone);
    if (above < 1) continue;
    const between = (tone - tones[above - 1]) / (tones[above] - tones[above - 1]);
    const band = above - 0.5 + between;
    if (found.every(([other]) => Math.abs(other - band) >= channels.length / 9)) {
      found.push([band, tone >= 1000 ? `${tone / 1000} k` : `${tone}`]);
    }
  }
  return found.map(([band, text]) => [y(band), text]);
}

function colourBar([low, high], colours, label) {
  const canvas = html("canvas", { width: 180, height: 1, "aria-hidden": "true", class: "bar" });
  const context = canvas.getContext("2d");
  const image = context.createImageData(180, 1);
  for (let at = 0; at < 180; at += 1) image.data.set([...colour(at / 179, colours), 255], 4 * at);
  context.putImageData(image, 0, 0);
  return html(
    "div",
    { class: "legend" },
    html("span", {}, label),
    canvas,
    html("span", { class: "ends" }, html("span", {}, number(low)), html("span", {}, number(high))),
  );
}
