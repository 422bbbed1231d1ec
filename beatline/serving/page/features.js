// A row of features as a table: name, value, and what each did to the decision.

import { html, svg } from "./elements.js";
import { number } from "./words.js";

const FIRST = 12; // those that moved the decision most
const [BAR, HALF] = [160, 76];

export function describe({ channels }) {
  return `${channels.length} features`;
}

export function draw(recording, marks) {
  const { channels, samples } = recording;
  const by = new Map(marks.cells.map((cell) => [cell.channels?.[0], cell]));
  const rows = channels.map((name, place) => ({ name, value: samples[0][place], cell: by.get(name) }));
  const marked = rows
    .filter(({ cell }) => cell)
    .sort((a, b) => Math.abs(b.cell.strength) - Math.abs(a.cell.strength))
    .slice(0, FIRST);
  const { name } = marks;
  const all = table(`All ${rows.length} features`, rows, by.size ? name : null);
  if (!marked.length || rows.length <= FIRST) return all;
  return html(
    "div",
    {},
    table(`The ${marked.length} features that moved it most`, marked, name),
    html("details", {}, html("summary", {}, `All ${rows.length} features, in their order`), all),
  );
}

/** `moved`: the class whose probability the features moved, `score`, or null. */
function table(caption, rows, moved) {
  const effect = moved === "score" ? "effect on the score" : `effect on ${moved} (percentage points)`;
  return html(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": caption },
    html(
      "table",
      {},
      html("caption", {}, caption),
      html(
        "thead",
        {},
        html(
          "tr",
          {},
          html("th", { scope: "col" }, "feature"),
          html("th", { scope: "col", class: "right" }, "value"),
          moved ? html("th", { scope: "col", class: "right" }, effect) : null,
          moved ? html("td", { class: "bar-cell", "aria-hidden": "true" }) : null,
        ),
      ),
      html("tbody", {}, ...rows.map((row) => line(row, moved))),
    ),
  );
}

function line({ name, value, cell }, moved) {
  const effect = (moved === "score" ? 1 : 100) * (cell?.value ?? 0);
  return html(
    "tr",
    {},
    html("th", { scope: "row" }, name),
    html("td", { class: "right" }, number(value)),
    moved ? html("td", { class: "right" }, `${effect > 0 ? "+" : ""}${number(effect)}`) : null,
    moved ? html("td", { class: "bar-cell", "aria-hidden": "true" }, bar(cell)) : null,
  );
}

function bar(cell) {
  const length = HALF * Math.abs(cell?.strength ?? 0);
  const side = cell?.strength < 0 ? "against-mark" : "for-mark";
  return svg(
    "svg",
    { width: BAR, height: 14 },
    svg("rect", { class: side, x: cell?.strength < 0 ? BAR / 2 - length : BAR / 2, y: 1, width: length,
      height: 12 }),
    svg("path", { class: "middle", d: `M${BAR / 2} 0V14` }),
  );
}
