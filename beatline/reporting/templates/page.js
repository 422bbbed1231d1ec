"use strict";

// What has changed since the last commit, if the script that tells it is there, and of these results.
const results = document.querySelector('meta[name="beatline-results"]')?.content;
if (results) {
  const told = typeof changes !== "undefined" && changes.results === results ? changes : null;
  const section = document.createElement("section");
  const add = (parent, name, text) => {
    const element = parent.appendChild(document.createElement(name));
    element.textContent = text;
    return element;
  };
  section.id = "changes";
  add(section, "h2", told ? told.title : "Since the last commit");
  add(section, "p", told ? told.first : "Not known of these results: make repro tells it here, make compare at any time.");
  if (told?.lines.length) {
    const list = add(section, "ul", "");
    for (const line of told.lines) add(list, "li", line);
  }
  document.querySelector("main h2").before(section);
}

// A link to a section opens what it is folded in, and what is folded below its heading.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let outer = target; outer; outer = outer.parentElement) {
    if (outer.tagName === "DETAILS") outer.open = true;
  }
  for (let next = target; next; next = next.nextElementSibling) {
    if (next !== target && /^H[1-6]$/.test(next.tagName)) break;
    if (next.classList.contains("fold")) next.open = true;
  }
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link && link.hash === location.hash) reveal(); // again, without a change
});
reveal();

// Print everything but the cards, which repeat much of it, unless they are open.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details.fold:not([open])")];
  for (const fold of closed) fold.open = true;
});
addEventListener("afterprint", () => { for (const fold of closed) fold.open = false; });

// Enter does what a click does.
function act(element, action) {
  element.tabIndex = 0;
  element.addEventListener("click", (event) => { if (!event.target.closest("a")) action(); });
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === element) action();
  });
}

// Sort a table by a column; numbers begin with the largest, and what is missing comes last.
const number = (text) => (/^-?[\d.]/.test(text) ? parseFloat(text.replaceAll(",", "")) : NaN);
function sort(body, column, header) {
  const rows = [...body.rows].map((row) => ({ row, text: row.cells[column].textContent.trim() }));
  const given = rows.filter(({ text }) => text && text !== "\u2013");
  const numeric = given.every(({ text }) => !Number.isNaN(number(text)));
  const was = header.ariaSort;
  const up = was === "none" ? !numeric : was === "descending";
  const by = numeric
    ? (a, b) => number(a.text) - number(b.text)
    : (a, b) => a.text.localeCompare(b.text, "en", { numeric: true });
  given.sort(up ? by : (a, b) => by(b, a));
  body.append(...given.map(({ row }) => row), ...rows.filter((row) => !given.includes(row)).map(({ row }) => row));
  for (const other of header.parentElement.cells) other.ariaSort = "none";
  header.ariaSort = up ? "ascending" : "descending";
}
for (const table of document.querySelectorAll(".table table")) {
  if (table.tBodies[0]?.rows.length > 1) {
    [...table.tHead.rows[0].cells].forEach((header, column) => {
      header.ariaSort = "none";
      header.title = "Sort";
      act(header, () => sort(table.tBodies[0], column, header));
    });
  }
}

// Enlarge a figure; a click or Escape closes it.
const dialog = document.querySelector("dialog");
dialog.addEventListener("click", () => dialog.close());
for (const figure of document.querySelectorAll("figure")) {
  const image = figure.firstElementChild;
  image.title = "Enlarge";
  act(image, () => {
    const large = image.cloneNode();
    large.title = "Close";
    dialog.replaceChildren(large);
    dialog.showModal();
  });
}
