// Small helpers around the document.

/** An element with properties (`class`, `text`, `on…` handlers, anything else an attribute) and children. */
export function el(tag, props = {}, ...children) {
  const space = SVG.has(tag) ? "http://www.w3.org/2000/svg" : null;
  const node = space ? document.createElementNS(space, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
}
const SVG = new Set(["svg", "rect", "line", "path", "g"]);

export const byId = (id) => document.getElementById(id);

let count = 0;
/** A fresh id, to tie a label to its field. */
export const freshId = (word) => `${word}-${++count}`;

/** Bytes for people. */
export function bytes(n) {
  for (const unit of ["B", "kB", "MB"]) {
    if (n < 1000) return unit === "B" ? `${n} B` : `${n.toFixed(1)} ${unit}`;
    n /= 1000;
  }
  return `${n.toFixed(1)} GB`;
}

/** Milliseconds for people: three figures. */
export function time(ms) {
  if (ms < 0.995) return `${(ms * 1000).toFixed(ms < 0.0995 ? 1 : 0)} µs`;
  return ms < 9.995 ? `${ms.toFixed(2)} ms` : ms < 99.95 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

/** A table with a header row; `numbers` are the columns aligned right. */
export function table(caption, head, rows, numbers = []) {
  const cell = (tag, text, i) => el(tag, { text, class: numbers.includes(i) ? "n" : undefined, scope: tag === "th" ? "col" : undefined });
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", { class: "hidden", text: caption }),
      head ? el("thead", {}, el("tr", {}, ...head.map((h, i) => cell("th", h, i)))) : null,
      el("tbody", {}, ...rows.map((r) => el("tr", {}, ...r.map((c, i) => (c instanceof Node ? el("td", {}, c) : cell("td", c, i)))))),
    ),
  );
}
