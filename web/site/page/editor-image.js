// A picture: from a file, dropped, pasted, or from the camera, once or live.
import { el, freshId } from "./dom.js";
import { paint, resize, toPixels, toTensor } from "../runtime/image.js";
import { Problem, show } from "./problems.js";

const MOST = 4096; // larger pictures are halved by the browser first: keeps phones alive

export function imageEditor(spec, changed) {
  const canvas = el("canvas", { class: "picture", role: "img", "aria-label": "No picture yet" });
  const video = el("video", { class: "picture", playsinline: true, hidden: true, "aria-label": "Camera" });
  video.muted = true;
  const fileId = freshId("file");
  const file = el("input", { type: "file", id: fileId, accept: "image/*", class: "hidden-file", onchange: () => file.files[0] && open(file.files[0]) });
  const camera = el("button", { text: "Camera", onclick: () => (stream ? stop() : start().catch(show)) });
  const shot = el("button", { text: "Take picture", hidden: true, onclick: () => { grab(); stop(); changed(); } });
  const liveId = freshId("live");
  const live = el("input", { type: "checkbox", id: liveId, onchange: () => live.checked && again() });
  const liveRow = el("span", { hidden: true }, live, " ", el("label", { for: liveId, text: "live" }));
  const hint = el("p", { class: "quiet", text: "Drop a picture here, paste one, or choose:" });
  const zone = el(
    "div",
    { class: "zone" },
    hint,
    el("p", { class: "row" }, file, el("label", { for: fileId, class: "button", text: "Choose a picture" }), camera, shot, liveRow),
    video,
    canvas,
  );
  let stream = null, pixels = null, given = null;
  let size = { w: spec.width, h: spec.height };

  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const item = [...(event.clipboardData?.files ?? [])].find((f) => f.type.startsWith("image/"));
    if (item) { event.preventDefault(); open(item); }
  });

  async function open(blob) {
    try {
      stop();
      let bitmap;
      try {
        bitmap = await createImageBitmap(blob);
      } catch {
        throw new Problem("DK-FILE", `${blob.name ?? "what was pasted"} is not a picture that this browser reads; use PNG, JPEG or WebP.`);
      }
      take(bitmap, bitmap.width, bitmap.height);
      bitmap.close();
      canvas.setAttribute("aria-label", `Picture ${blob.name ?? ""}`);
      changed();
    } catch (error) {
      show(error);
    } finally {
      file.value = "";
    }
  }

  function take(source, w, h) {
    const shrinkBy = Math.max(1, Math.max(w, h) / MOST);
    w = Math.max(1, Math.round(w / shrinkBy));
    h = Math.max(1, Math.round(h / shrinkBy));
    canvas.width = w;
    canvas.height = h;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(source, 0, 0, w, h);
    pixels = pen.getImageData(0, 0, w, h).data;
    size = { w, h };
    given = null;
    canvas.hidden = false;
  }

  async function start() {
    if (!navigator.mediaDevices?.getUserMedia) throw new Problem("DK-CAMERA", "this browser gives no camera here; pages need https for it.");
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    video.srcObject = stream;
    await video.play();
    video.hidden = shot.hidden = liveRow.hidden = false;
    canvas.hidden = true;
    camera.textContent = "Stop camera";
  }
  function stop() {
    if (!stream) return;
    for (const track of stream.getTracks()) track.stop();
    stream = null;
    live.checked = false;
    video.hidden = shot.hidden = liveRow.hidden = true;
    canvas.hidden = false;
    camera.textContent = "Camera";
  }
  function grab() {
    take(video, video.videoWidth, video.videoHeight);
    canvas.setAttribute("aria-label", "Picture from the camera");
    canvas.hidden = Boolean(stream) && live.checked;
  }
  function again() {
    if (!live.checked || !stream) return;
    grab();
    changed();
  }

  return {
    node: zone,
    value() {
      if (given) return given;
      if (!pixels) throw new Problem("DK-INPUT", `input '${spec.name}': there is no picture yet. Choose one, or take a sample.`);
      return toTensor(resize(pixels, size.w, size.h, spec.width, spec.height), spec);
    },
    set(tensor) {
      stop();
      pixels = toPixels(tensor, spec);
      size = { w: spec.width, h: spec.height };
      paint(canvas, pixels, spec.width, spec.height);
      canvas.setAttribute("aria-label", "Sample picture");
      given = tensor;
    },
    picture: () => canvas,
    next: () => requestAnimationFrame(again), // after an answer: the next picture when live
  };
}
