// Series against time, one below the other if there are several channels.

import { ERROR_HEIGHT, errorLabel, errorLine, ticks, timeAxis, valueAxis } from "./axes.js";
import { path, svg } from "./elements.js";
import { shade } from "./marks.js";
import { extent } from "./numbers.js";
import { number } from "./words.js";

const [LEFT, RIGHT, TOP, AXIS, GAP] = [58, 12, 10, 40, 14];

export function describe(recording) {
  const { samples, sampling_rate: rate, channels } = recording;
  const length = rate ? `${number(samples.length / rate)} s` : `${samples.length} samples`;
  return `${channels.length > 1 ? `${channels.length} series` : "Series"} of ${length}`;
}

export function draw(recording, marks, width) {
  const { samples, channels } = recording;
  const rate = recording.sampling_rate || 1;
  const end = samples.length / rate;
  const box = { left: LEFT, width: width - LEFT - RIGHT };
  const each = channels.length > 1 ? 110 : 220;
  const x = (at) => box.left + (at / end) * box.width;
  const drawn = channels.flatMap((_, column) => {
    const top = TOP + column * (each + GAP);
    return panel(recording, marks, { ...box, top, bottom: top + each }, column, x);
  });
  let bottom = TOP + channels.length * (each + GAP) - GAP;
  if (marks.line) {
    bottom += GAP + ERROR_HEIGHT;
    drawn.push(errorLine(marks.line, x, bottom, ERROR_HEIGHT));
    drawn.push(errorLabel(marks.line, LEFT, bottom));
  }
  drawn.push(timeAxis({ ...box, bottom }, end, recording.sampling_rate ? "time (s)" : "sample"));
  const height = bottom + AXIS;
  return svg(
    "svg",
    { class: "plot", role: "img", "aria-label": describe(recording), width, height },
    ...drawn,
  );
}

function panel(recording, marks, box, column, x) {
  const rate = recording.sampling_rate || 1;
  const lines = [recording.samples, recording.reconstruction].map((rows) =>
    rows?.map((row) => row[column]),
  );
  const values = lines.flatMap((line) => line ?? []).filter((value) => value !== null);
  const [low, highest] = values.length ? extent(values) : [0, 1];
  const high = highest > low ? highest : low + (Math.abs(low) || 1); // of any unit, also of a flat line
  const pad = 0.05 * (high - low);
  const height = box.bottom - box.top;
  const y = (value) => box.bottom - ((value - low + pad) / (high - low + 2 * pad)) * height;
  const [recorded, copy] = lines.map((line) =>
    line ? path(line.map((value, step) => value !== null && [x((step + 0.5) / rate), y(value)])) : null,
  );
  const name = recording.channels.length > 1 ? recording.channels[column] : recording.unit;
  return [
    svg("rect", { class: "ground", x: box.left, y: box.top, width: box.width, height }),
    ...marks.cells
      .filter(({ channels }) => !channels || channels.includes(recording.channels[column]))
      .map((cell) => svg("rect", { ...span(cell, x, box), ...shade(cell, marks.kind) })),
    copy && svg("path", { class: "copy", d: copy }),
    svg("path", { class: "trace", "data-channel": recording.channels[column], d: recorded }),
    marks.strongest && svg("rect", { ...span(marks.strongest, x, box), class: "strongest" }),
    valueAxis(box, ticks(low, high, 4).map((value) => [y(value), number(value)]), name),
  ];
}

function span({ start, end }, x, { top, bottom }) {
  return { x: x(start), y: top, width: Math.max(x(end) - x(start), 1), height: bottom - top };
}
