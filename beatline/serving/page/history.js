// A detector's scores of a machine against the threshold, over time.

import { ticks, timeAxis, valueAxis } from "./axes.js";
import { path, svg } from "./elements.js";
import { extent } from "./numbers.js";
import { number } from "./words.js";

const [LEFT, RIGHT, TOP, HEIGHT, AXIS] = [58, 12, 10, 180, 40];
const UNITS = [["days", 86_400_000], ["hours", 3_600_000], ["minutes", 60_000], ["seconds", 1000]];

/** A moment as readers of this place write it, to the minute. */
export function clock(moment) {
  return new Date(moment).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

export function describe({ moment, score, threshold, anomaly }) {
  const anomalies = anomaly.filter(Boolean).length;
  return `${score.length} scores from ${clock(moment[0])} to ${clock(moment.at(-1))}, ${anomalies} of ` +
    `them anomalies; the last is ${number(score.at(-1))}, the threshold ${number(threshold.at(-1))}`;
}

export function draw(series, width) {
  const { moment, score, threshold, anomaly } = series;
  const times = moment.map((each) => Date.parse(each));
  const first = times[0];
  const [unit, length] = UNITS.find(([, one]) => times.at(-1) - first >= 2 * one) ?? UNITS.at(-1);
  const end = (times.at(-1) - first) / length || 1;
  const box = { left: LEFT, width: width - LEFT - RIGHT, top: TOP, bottom: TOP + HEIGHT };
  const [lowest, highest] = extent([...score, ...threshold]);
  const pad = 0.06 * (highest - lowest || Math.abs(highest) || 1);
  const [low, high] = [lowest - pad, highest + pad];
  const x = (place) => box.left + ((times[place] - first) / length / end) * box.width;
  const y = (value) => box.bottom - ((value - low) / (high - low)) * HEIGHT;
  const line = (values) => path(values.map((value, place) => value !== null && [x(place), y(value)]));
  const marks = score.map((value, place) => anomaly[place] &&
    svg("circle", { class: "error-mark", cx: x(place), cy: y(value), r: 4 }));
  return svg(
    "svg",
    { class: "plot", role: "img", "aria-label": describe(series), width, height: box.bottom + AXIS },
    svg("rect", { class: "ground", x: box.left, y: box.top, width: box.width, height: HEIGHT }),
    svg("path", { class: "copy", "data-line": "threshold", d: line(threshold) }),
    svg("path", { class: "trace", "data-line": "score", d: line(score) }),
    marks.filter(Boolean),
    score.length === 1 && svg("circle", { class: "point", cx: x(0), cy: y(score[0]), r: 2.5 }) || null,
    valueAxis(box, ticks(low, high, 4).map((value) => [y(value), number(value)]), "score"),
    timeAxis(box, end, `${unit} since ${clock(moment[0])}`),
  );
}
