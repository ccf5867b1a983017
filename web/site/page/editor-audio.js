// Sound: from a file or the microphone, at the model's own rate.
import { decodeSound, fit, samplesToTensor, spectrogram } from "../runtime/audio.js";
import { el } from "./dom.js";
import { Problem, show } from "./problems.js";

const LONGEST = 30; // seconds of a recording

export function audioEditor(spec, changed) {
  const fixed = typeof spec.shape?.[spec.axis] === "number";
  const length = fixed ? spec.shape[spec.axis] : null;
  const seconds = fixed ? length / spec.rate : LONGEST;
  const picture = el("canvas", { class: "picture", width: "320", height: "128", role: "img", "aria-label": "Spectrogram; nothing yet" });
  const note = el("p", { class: "quiet", text: `The model hears ${spec.rate / 1000} kHz${fixed ? `, ${seconds.toFixed(2)} s` : ""}.` });
  const file = el("input", { type: "file", accept: "audio/*,.wav", "aria-label": "Open a sound file", onchange: () => file.files[0] && open(file.files[0]) });
  const record = el("button", { text: "Record", onclick: () => (recorder ? recorder.stop() : start().catch(show)) });
  let recorder = null, given = null, samples = null;

  async function open(blob) {
    try {
      let sound;
      try {
        sound = await decodeSound(blob, spec.rate);
      } catch (error) {
        throw new Problem("DK-FILE", error.message.replace(/^DK-[A-Z]+: /, ""));
      }
      take(sound);
      changed();
    } catch (error) {
      show(error);
    } finally {
      file.value = "";
    }
  }

  async function start() {
    if (!navigator.mediaDevices?.getUserMedia) throw new Problem("DK-CAMERA", "this browser gives no microphone here; pages need https for it.");
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = () => {
      for (const track of stream.getTracks()) track.stop();
      record.textContent = "Record";
      recorder = null;
      open(new Blob(parts));
    };
    recorder.start();
    record.textContent = "Stop recording";
    setTimeout(() => recorder?.state === "recording" && recorder.stop(), Math.min(seconds, LONGEST) * 1000 + 150);
  }

  function take(data) {
    samples = fit(data, length);
    given = null;
    paint();
  }

  function paint() {
    const w = picture.width, h = picture.height;
    const power = spectrogram(samples, w);
    const pen = picture.getContext("2d"), image = pen.createImageData(w, h);
    for (let x = 0; x < w; ++x) {
      for (let y = 0; y < h; ++y) {
        const v = Math.min(1, Math.max(0, (power[x * h + (h - 1 - y)] + 60) / 90));
        image.data.set([255 * Math.min(1, 2 * v), 255 * Math.max(0, Math.min(1, 2.4 * v - 0.7)), 90 + 120 * v * (1 - v) * 2, 255], (y * w + x) * 4);
      }
    }
    pen.putImageData(image, 0, 0);
    picture.setAttribute("aria-label", `Spectrogram of ${(samples.length / spec.rate).toFixed(2)} seconds`);
  }

  return {
    node: el("div", {}, el("p", { class: "row" }, file, record), picture, note),
    value() {
      if (given) return given;
      if (!samples) throw new Problem("DK-INPUT", `input '${spec.name}': there is no sound yet. Record some, or open a file.`);
      return samplesToTensor(samples, { ...spec, length, rank: spec.example.length });
    },
    set(tensor) {
      const whole = spec.dtype === "int16";
      samples = Float32Array.from(tensor.data, (v) => (whole ? v / 32768 : Number(v)));
      given = tensor;
      paint();
    },
  };
}
