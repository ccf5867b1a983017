// What the visitor enters for each input.  An editor is {node, value(), set(tensor), clear()}; it calls `changed()`.
import { audioEditor } from "./editor-audio.js";
import { drawEditor } from "./editor-draw.js";
import { imageEditor } from "./editor-image.js";
import { tensorEditor, textEditor } from "./editor-plain.js";
import { el } from "./dom.js";

const KINDS = { draw: drawEditor, image: imageEditor, audio: audioEditor, text: textEditor, tensor: tensorEditor };

/** Editors for all inputs, by name; put under `parent`. */
export function makeEditors(parent, inputs, changed) {
  const out = new Map();
  const many = inputs.length > 1;
  for (const spec of inputs) {
    const editor = KINDS[spec.editor](spec, changed);
    const title = many ? el("legend", { text: spec.name }) : el("legend", { class: "hidden", text: spec.name });
    parent.append(el("fieldset", { class: `editor ${spec.editor}` }, title, editor.node));
    out.set(spec.name, editor);
  }
  return out;
}
