// Images in grey levels, enlarged so that their pixels can be seen.

import { html, svg } from "./elements.js";
import { shade } from "./marks.js";
import { extent } from "./numbers.js";

const LARGEST = 336;

export function describe({ samples, channels }) {
  return `Image of ${samples.length} rows and ${channels.length} columns`;
}

/** The image and, beside it, the marked image, if anything is marked. */
export function draw(recording, marks, width) {
  const { samples, channels } = recording;
  const room = Math.min(LARGEST, width);
  const side = Math.max(Math.floor(room / channels.length), 1);
  const size = { width: side * channels.length, height: side * samples.length };
  const plain = layers(recording, size, [], "");
  if (!marks.cells.length) return html("div", { class: "images" }, plain);
  const drawn = marks.cells.map((cell) =>
    svg("rect", { ...place(cell, channels, side), ...shade(cell, marks.kind) }),
  );
  if (marks.strongest) {
    drawn.push(svg("rect", { ...place(marks.strongest, channels, side), class: "strongest" }));
  }
  return html("div", { class: "images" }, plain, layers(recording, size, drawn, ", marked"));
}

function layers(recording, size, drawn, marked) {
  const overlay = svg(
    "svg",
    { class: "on-dark", role: "img", "aria-label": `${describe(recording)}${marked}`, ...size },
    ...drawn,
  );
  const canvas = painted(recording.samples);
  Object.assign(canvas.style, { width: `${size.width}px`, height: `${size.height}px` });
  return html("div", { class: "layers" }, canvas, overlay);
}

function place({ start, end, channels: names }, channels, side) {
  const columns = (names ?? channels).map((name) => channels.indexOf(name));
  const [first, last] = extent(columns);
  return {
    x: first * side,
    y: start * side,
    width: (last + 1 - first) * side,
    height: (end - start) * side,
  };
}

/** 0 is black, 1 is white. */
function painted(samples) {
  const canvas = html("canvas", {
    width: samples[0].length,
    height: samples.length,
    "aria-hidden": "true",
  });
  const context = canvas.getContext("2d");
  const image = context.createImageData(samples[0].length, samples.length);
  samples.flat().forEach((value, pixel) => {
    const level = 255 * (value ?? 0);
    image.data.set([level, level, level, 255], 4 * pixel);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}
