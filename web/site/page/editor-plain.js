// Text by the model's own vocabulary, and raw tensors.
import { el, freshId } from "./dom.js";
import { Problem, show } from "./problems.js";
import { figure, make, parseNpy, product, random, summary } from "./tensor.js";
import { encode } from "../runtime/text.js";

export function textEditor(spec, changed) {
  const id = freshId("text");
  const area = el("textarea", { id, rows: "4", spellcheck: "false" });
  const note = el("p", { class: "quiet", text: "" });
  let given = null, timer = 0;
  const file = el("input", { type: "file", "aria-label": "Open a file", onchange: async () => { given = null; area.value = await file.files[0].text(); changed(); } });
  area.addEventListener("input", () => { given = null; clearTimeout(timer); timer = setTimeout(changed, 250); });
  return {
    node: el("div", {}, el("label", { for: id, text: spec.text.prompt ?? "Text" }), area, el("p", {}, file), note),
    value() {
      if (given) return given;
      if (!area.value) throw new Problem("DK-INPUT", `input '${spec.name}': there is no text yet.`);
      const { ids, unknown, cut } = encode(area.value, spec.text, spec.example.at(-1), typeof spec.shape?.at(-1) === "number");
      note.textContent = [unknown ? `${unknown} not in the vocabulary` : "", cut ? `${cut} beyond the model's length left out` : ""].filter(Boolean).join("; ");
      return make(spec.dtype, [...spec.example.slice(0, -1).map(() => 1), ids.length], ids);
    },
    set(tensor) {
      given = tensor;
      area.value = "";
      note.textContent = `a sample of ${tensor.data.length} numbers`;
    },
  };
}

const SHOWN = 64;

export function tensorEditor(spec, changed) {
  const dims = spec.shape ?? spec.example;
  const fields = dims.map((d, i) =>
    el("input", {
      type: "number", min: "0", max: "1000000", step: "1", value: spec.example[i], "aria-label": `dim ${i}${typeof d === "string" ? ` (${d})` : ""}`,
      disabled: typeof d === "number", onchange: () => fill(how.value),
    }),
  );
  const howId = freshId("how");
  const how = el("select", { id: howId, onchange: () => fill(how.value) },
    ...[["random", "random numbers"], ["zeros", "zeros"], ["ones", "ones"]].map(([value, text]) => el("option", { value, text })),
    el("option", { value: "own", text: "as entered below", hidden: true }));
  const file = el("input", { type: "file", accept: ".npy", "aria-label": `Open an .npy file for ${spec.name}`, onchange: () => open(file.files[0]) });
  const area = el("textarea", { rows: "3", spellcheck: "false", "aria-label": `Values of ${spec.name}` });
  const note = el("p", { class: "quiet" });
  let tensor = null, entered = false;

  const shape = () => fields.map((f) => Number(f.value));
  function fill(kind) {
    if (kind === "own") return;
    entered = false;
    try {
      if (shape().some((d) => !Number.isInteger(d) || d < 0) || product(shape()) > 1e8) throw new Problem("DK-INPUT", `input '${spec.name}': got shape [${shape()}], expected sizes of at most 100 million numbers in all.`);
      const n = product(shape());
      tensor = kind === "random" ? random(spec.dtype, shape()) : make(spec.dtype, shape(), kind === "ones" ? Array(n).fill(1) : undefined);
      describe();
    } catch (error) {
      tensor = null;
      show(error);
    }
  }
  function describe() {
    const s = summary(tensor.data);
    const few = tensor.data.length <= SHOWN;
    area.value = Array.from(tensor.data.subarray(0, SHOWN), figure).join(", ") + (few ? "" : ", …");
    area.readOnly = !few;
    note.textContent = tensor.data.length ? `${tensor.data.length} values, ${figure(s.low)} to ${figure(s.high)}, mean ${figure(s.mean)}` : "no values";
  }
  async function open(blob) {
    try {
      const read = parseNpy(await blob.arrayBuffer());
      if (read.shape.length !== dims.length || read.shape.some((d, i) => typeof dims[i] === "number" && d !== dims[i])) {
        throw new Problem("DK-SHAPE", `input '${spec.name}': got shape [${read.shape.join(", ")}], expected [${dims.join(", ")}].`);
      }
      if (read.dtype !== spec.dtype) throw new Problem("DK-INPUT", `input '${spec.name}': got dtype ${read.dtype}, expected ${spec.dtype}; save it with .astype('${spec.dtype}').`);
      set(read);
      changed();
    } catch (error) {
      show(error);
    }
  }
  function set(t) {
    tensor = t;
    entered = false;
    how.value = "own";
    t.shape.forEach((d, i) => { fields[i].value = d; });
    describe();
  }
  area.addEventListener("input", () => { entered = true; how.value = "own"; });
  fill("random");
  return {
    node: el(
      "div",
      {},
      el("p", { class: "row" }, el("span", { class: "mono", text: `${spec.dtype} [` }), ...fields.flatMap((f, i) => (i ? [", ", f] : [f])), el("span", { class: "mono", text: "]" })),
      el("p", { class: "row" }, el("label", { for: howId, text: "Fill with" }), how, file),
      area,
      note,
    ),
    value() {
      if (entered) {
        const words = area.value.split(/[\s,;]+/).filter(Boolean), numbers = words.map(Number);
        const bad = words.find((_, i) => Number.isNaN(numbers[i]) && !/^nan$/i.test(words[i]));
        if (bad !== undefined) throw new Problem("DK-INPUT", `input '${spec.name}': '${bad}' is not a number.`);
        if (numbers.length !== product(shape())) throw new Problem("DK-INPUT", `input '${spec.name}': got ${numbers.length} values, expected ${product(shape())} for shape [${shape()}].`);
        return make(spec.dtype, shape(), numbers);
      }
      if (!tensor) throw new Problem("DK-INPUT", `input '${spec.name}': give a shape and values.`);
      return tensor;
    },
    set,
  };
}
