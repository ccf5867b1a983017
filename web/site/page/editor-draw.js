// Handwriting: a canvas for pen, finger, mouse or keys; a small picture shows what the model gets.
import { el, freshId } from "./dom.js";
import { drawn, paint, toPixels, toTensor } from "../runtime/image.js";
import { Problem } from "./problems.js";

const SIDE = 280, WIDTH = 24, STEP = 14;

export function drawEditor(spec, changed) {
  const canvas = el("canvas", {
    width: SIDE, height: SIDE, tabindex: "0", class: "pad", role: "application", "aria-roledescription": "drawing area",
    "aria-label": "Drawing area. Draw with pen or mouse; or move with the arrow keys and press space to put the pen down or lift it.",
  });
  const look = el("canvas", { class: "look", role: "img", "aria-label": "What the model sees" });
  const fitId = freshId("fit");
  const fit = el("input", { type: "checkbox", id: fitId, checked: true, onchange: () => ended() });
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let given = null, empty = true, last = null, timer = 0;

  const draw = (x, y) => {
    pen.lineWidth = WIDTH;
    pen.lineCap = pen.lineJoin = "round";
    pen.strokeStyle = getComputedStyle(canvas).color;
    pen.beginPath();
    pen.moveTo(...(last ?? [x, y]));
    pen.lineTo(x, y);
    pen.stroke();
    last = [x, y];
    given = null;
    empty = false;
  };
  const ended = () => {
    if (empty) return;
    show();
    clearTimeout(timer);
    timer = setTimeout(changed, 30);
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (given) clear();
    last = null;
    draw(...place(event));
  });
  canvas.addEventListener("pointermove", (event) => { if (event.buttons && last) draw(...place(event)); });
  canvas.addEventListener("pointerup", () => { last = null; ended(); });
  canvas.addEventListener("pointercancel", () => { last = null; });

  const cursor = { x: SIDE / 2, y: SIDE / 4, down: false };
  const spot = el("span", { class: "spot", hidden: true });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === " ") {
      if (given) clear();
      cursor.down = !cursor.down;
      last = null;
      if (cursor.down) draw(cursor.x, cursor.y);
      else ended();
    } else if (move) {
      cursor.x = Math.min(SIDE, Math.max(0, cursor.x + move[0] * STEP));
      cursor.y = Math.min(SIDE, Math.max(0, cursor.y + move[1] * STEP));
      if (cursor.down) { draw(cursor.x, cursor.y); ended(); }
    } else return;
    event.preventDefault();
    spot.hidden = false;
    spot.style.left = `${(cursor.x / SIDE) * 100}%`;
    spot.style.top = `${(cursor.y / SIDE) * 100}%`;
    spot.classList.toggle("down", cursor.down);
  });
  canvas.addEventListener("blur", () => { spot.hidden = true; });

  function clear() {
    pen.clearRect(0, 0, SIDE, SIDE);
    given = null;
    empty = true;
    last = null;
    look.getContext("2d").clearRect(0, 0, look.width, look.height);
  }

  const pixels = () => drawn(pen.getImageData(0, 0, SIDE, SIDE).data, SIDE, spec, fit.checked);
  const show = () => paint(look, given ? toPixels(given, spec) : pixels(), spec.width, spec.height);

  return {
    node: el(
      "div",
      { class: "drawing" },
      el("div", { class: "sheet" }, canvas, spot),
      el(
        "div",
        { class: "beside" },
        el("p", { class: "quiet", text: `The model sees ${spec.width} × ${spec.height} pixels:` }),
        look,
        el("p", {}, fit, " ", el("label", { for: fitId, text: "centre and scale" })),
        el("button", { text: "Clear", onclick: () => { clear(); } }),
      ),
    ),
    value() {
      if (given) return given;
      if (empty) throw new Problem("DK-INPUT", `input '${spec.name}': nothing is drawn yet. Draw something, or take a sample.`);
      return toTensor(pixels(), spec);
    },
    set(tensor) {
      clear();
      given = tensor;
      empty = false;
      show();
      const large = pen;
      large.imageSmoothingEnabled = false;
      const seen = toPixels(tensor, spec); // as ink of the page's colour
      const ghost = new OffscreenCanvas(spec.width, spec.height);
      const data = new ImageData(spec.width, spec.height);
      const rgb = getComputedStyle(canvas).color.match(/\d+/g).map(Number);
      for (let i = 0; i < spec.width * spec.height; ++i) {
        const v = seen[i * 4];
        data.data.set([rgb[0], rgb[1], rgb[2], spec.ink === "dark" ? 255 - v : v], i * 4);
      }
      ghost.getContext("2d").putImageData(data, 0, 0);
      large.drawImage(ghost, 0, 0, SIDE, SIDE);
    },
    picture: () => look,
  };
}
