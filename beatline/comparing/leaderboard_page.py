"""The leaderboard as one HTML file: a table to sort, with the Pareto front marked, nothing fetched."""

from __future__ import annotations

import html
import math
import re

from beatline.comparing.leaderboard import COSTS, Entry, Leaderboard
from beatline.reporting.page import STYLE

METRICS = {
    "auc": "AUC",
    "pauc": "pAUC",
    "average_precision": "average precision",
    "f1": "F1",
    "accuracy": "accuracy",
    "brier": "Brier score",
}
COST_NAMES = {
    "parameters": "parameters",
    "train_seconds": "training (s)",
    "predict_milliseconds": "prediction (ms)",
}
DASH = "–"  # noqa: RUF001
OWN_STYLE = """
body { max-width: none; }
p, form { max-width: 60rem; }
form { display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; margin: 1rem 0; align-items: baseline; }
select { font: inherit; color: inherit; background: var(--back); border: 1px solid var(--line);
  border-radius: 4px; padding: .15rem .3rem; max-width: 100%; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer;
  text-align: inherit; white-space: nowrap; }
th button:hover { text-decoration: underline; }
th[aria-sort="ascending"] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
td.number, th.number { text-align: right; }
td small { color: var(--quiet); }
td.number small { display: block; }
td.names { white-space: normal; min-width: 9rem; max-width: 14rem; }
td.made { white-space: normal; min-width: 15rem; }
th:nth-child(2), td.model { position: sticky; left: 0; background: var(--back); }
tr.front td { background: var(--front); }
tr.front td.model::after { content: " \\2605"; color: var(--star); }
:root { --front: #eaf5ef; --star: #0f7b6c; }
@media (prefers-color-scheme: dark) { :root { --front: #14281f; --star: #5cc8a8; } }
td details { border: 0; background: none; margin: 0; padding: 0; font-size: .8rem; }
td summary { font-weight: 400; padding: 0; color: var(--quiet); cursor: pointer; }
td details pre { max-width: 34rem; white-space: pre-wrap; margin: .3rem 0; }
.mark { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
"""
SCRIPT = """
const table = document.querySelector("table"), body = table.tBodies[0];
const rows = [...body.rows], cost = document.getElementById("cost"), set = document.getElementById("set");
function show() {
  for (const row of rows) {
    row.hidden = set.value !== "" && row.dataset.set !== set.value;
    const front = row.dataset.fronts.split(" ").includes(cost.value);
    row.classList.toggle("front", front);
    row.querySelector(".mark").textContent = front ? "on the front" : "";
  }
}
function sort(header) {
  const place = header.cellIndex, down = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const number = header.classList.contains("number");
  const key = row => row.cells[place].dataset.value ?? row.cells[place].textContent;
  rows.sort((a, b) => {
    const x = key(a), y = key(b);
    if (x === "" || y === "") return (x === "") - (y === "");
    const order = number ? Number(x) - Number(y) : x.localeCompare(y);
    return down ? -order : order;
  });
  body.append(...rows);
}
for (const button of table.tHead.querySelectorAll("button"))
  button.addEventListener("click", () => sort(button.closest("th")));
cost.addEventListener("change", show);
set.addEventListener("change", show);
show();
"""


def page(board: Leaderboard) -> str:
    """The HTML file."""
    metrics = {
        key: name
        for key, name in METRICS.items()
        if any(key in entry.metrics for entry in board.entries)
    }
    header = [
        *(_header(name) for name in ("data set", "model", "revision")),
        *(_header(name, number=True) for name in metrics.values()),
        *(_header(COST_NAMES[cost], number=True) for cost in COSTS),
        "<th>made from</th>",
    ]
    sets = list(dict.fromkeys(entry.dataset for entry in board.entries))
    rows = "\n".join(_row(entry, list(metrics)) for entry in board.entries)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Leaderboard</title>\n<style>{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Leaderboard</h1>\n{_introduction(board)}"
        f"<form>{_select('set', 'data set', {'': 'all', **{name: name for name in sets}})}"
        f"{_select('cost', 'front by AUC and', COST_NAMES)}</form>\n"
        '<div class="table" tabindex="0" role="region" aria-label="results">\n<table>\n'
        f"<thead><tr>{''.join(header)}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _introduction(board: Leaderboard) -> str:
    words = (
        "Every result once, from the workspace, experiments, branches and commits; brackets hold "
        "bootstrap intervals. A star marks the Pareto front: of several results with the same task on "
        "the same test records, no other is at least as good and at least as cheap. Click a heading to "
        "sort."
    )
    simulated = sorted({entry.dataset for entry in board.entries if entry.simulated})
    paragraphs = [words]
    if simulated:
        paragraphs.append(
            f"Data of {', '.join(simulated)} are simulated: what is measured there says nothing about "
            f"patients or machines."
        )
    if board.nothing:
        paragraphs.append(
            f"Not shown, for want of metrics with intervals: {', '.join(map(short, board.nothing))}."
        )
    return "".join(f"<p>{html.escape(paragraph)}</p>\n" for paragraph in paragraphs)


def _select(name: str, label: str, options: dict[str, str]) -> str:
    inside = "".join(
        f'<option value="{html.escape(value)}">{html.escape(text)}</option>'
        for value, text in options.items()
    )
    return f'<label>{label} <select id="{name}">{inside}</select></label>'


def _header(name: str, *, number: bool = False) -> str:
    kind = ' class="number"' if number else ""
    return f'<th scope="col"{kind}><button type="button">{html.escape(name)}</button></th>'


def _row(entry: Entry, metrics: list[str]) -> str:
    front = COSTS[0] in entry.fronts  # what a browser without scripts shows
    simulated = " <small>simulated</small>" if entry.simulated else ""
    cells = [
        f"<td>{html.escape(entry.dataset)}{simulated}</td>",
        f'<td class="model">{html.escape(entry.model)} <small class="mark"></small></td>',
        f'<td class="names">{_names(entry.revisions)}</td>',
        *(_metric(entry.metrics.get(metric)) for metric in metrics),
        *(_number(entry.costs.get(cost), cost) for cost in COSTS),
        f'<td class="made">{_made(entry)}</td>',
    ]
    kind = ' class="front"' if front else ""
    fronts = " ".join(entry.fronts)
    return (
        f'<tr data-set="{html.escape(entry.dataset)}" data-fronts="{fronts}"{kind}>'
        f"{''.join(cells)}</tr>"
    )


def _names(revisions: list[str]) -> str:
    """The first, and the others behind a click."""
    first, *others = map(html.escape, revisions)
    if not others:
        return first
    return f"{first}<details><summary>and {len(others)} more</summary>{', '.join(others)}</details>"


def _metric(row: dict[str, float | None] | None) -> str:
    value = row["value"] if row else None
    if row is None or value is None or math.isnan(value):
        return f'<td class="number" data-value="">{DASH}</td>'
    low, high = (DASH if row[end] is None else f"{row[end]:.3f}" for end in ("low", "high"))
    return (
        f'<td class="number" data-value="{value}">{value:.3f} <small>[{low}, {high}]</small></td>'
    )


def _number(value: float | None, cost: str) -> str:
    if value is None:
        return f'<td class="number" data-value="">{DASH}</td>'
    shown = f"{value:,.0f}" if cost == "parameters" else f"{value:,.1f}"
    return f'<td class="number" data-value="{value}">{shown}</td>'


def _made(entry: Entry) -> str:
    """Which parameters differ from the workspace's, and everything behind a click."""
    own = f"train.{entry.model}.{entry.dataset}."
    said = [
        f"{key.removeprefix(own)} {after}" for key, (_, after) in entry.differing.parameters.items()
    ]
    said += [f"other {kind}" for kind in ("code", "data") if getattr(entry.differing, kind)]
    lines = [
        *entry.differing.sentences,
        *(f"{key}: {value}" for key, value in entry.parameters.items()),
    ]
    return (
        f"{html.escape(', '.join(said) or 'as the workspace')}<details><summary>everything</summary>"
        f"<pre>{html.escape(chr(10).join(lines))}</pre></details>"
    )


def short(revision: str) -> str:
    """A commit's first digits; any other name as it is."""
    return revision[:7] if re.fullmatch("[0-9a-f]{40}", revision) else revision
