// Axes and lines that several drawings share.

import { path, svg } from "./elements.js";
import { number } from "./words.js";

export const ERROR_HEIGHT = 46; // of the line of errors below a recording, in pixels

/** Round numbers from `low` to `high`, about `count` of them. */
export function ticks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const length = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

/** Time to the right along the bottom of a box. `end`: of the recording. */
export function timeAxis({ left, width, bottom }, end, label) {
  const marks = ticks(0, end, Math.max(2, Math.min(10, width / 80)));
  return svg(
    "g",
    { class: "axis" },
    marks.map((at) => {
      const x = left + (at / end) * width;
      return [
        svg("path", { d: `M${x} ${bottom}v5` }),
        svg("text", { x, y: bottom + 17, "text-anchor": "middle" }, number(at)),
      ];
    }).flat(),
    svg("text", { x: left + width / 2, y: bottom + 33, "text-anchor": "middle" }, label),
  );
}

/** Values upwards at the left of a box: `[place in pixels, label]`. */
export function valueAxis({ left, top, bottom }, marks, label) {
  const middle = (top + bottom) / 2;
  return svg(
    "g",
    { class: "axis" },
    marks.map(([y, text]) => [
      svg("path", { d: `M${left} ${y}h-5` }),
      svg("text", { x: left - 8, y: y + 4, "text-anchor": "end" }, text),
    ]).flat(),
    svg(
      "text",
      { x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` },
      label,
    ),
  );
}

/** What the area is called, at its left. */
export function errorLabel({ label }, left, bottom) {
  return svg("text", { class: "small", x: left - 8, y: bottom - 4, "text-anchor": "end" }, label);
}

/** The error over time as an area; `x(time)` and `bottom` in pixels. */
export function errorLine({ cells, largest }, x, bottom, height) {
  const y = (value) => bottom - (largest > 0 ? (value / largest) * height : 0);
  // The last window may begin before the one before it ends.
  const points = cells.flatMap(({ start, end, value }, number) => [
    [x(start), y(value)],
    [x(Math.min(end, cells[number + 1]?.start ?? end)), y(value)],
  ]);
  if (!points.length) return svg("g");
  const area = [[points[0][0], bottom], ...points, [points.at(-1)[0], bottom]];
  return svg("path", { class: "error-line", d: `${path(area)}Z` });
}
