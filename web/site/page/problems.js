// Errors: the engine's code, and what it means here in the page's own words.
import { byId, el } from "./dom.js";

/** A problem of the page itself, coded like the engine's. */
export class Problem extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const WORDS = {
  "DK-FORMAT": "The model file is damaged, cut short, or something else than a model. Reload the page; if that does not help, the file on the server has to be replaced.",
  "DK-VERSION": "The model needs a newer engine than this page brings. The page has to be made again with a newer Deploykit.",
  "DK-INPUT": "The model does not take this input.",
  "DK-SHAPE": "The model does not take an input of this size.",
  "DK-INDEX": "The input holds a number that points outside a table of the model.",
  "DK-MEMORY": "There is not enough memory. Close other pages or give a smaller input.",
  "DK-IO": "A file could not be fetched. Check the network, then reload the page.",
  "DK-ENGINE": "The engine does not run here: the browser is too old for it, or stopped it. Reload the page, or take a current version of Firefox, Safari, Chrome or Edge.",
  "DK-UNSUPPORTED": "The model uses something that this engine does not have.",
  "DK-CAMERA": "The camera or microphone could not be used. Allow it for this page in the address bar, or give a file.",
  "DK-FILE": "This file could not be read.",
  "DK-ABORTED": "Stopped.",
};

/** Any thrown thing as {code, words, detail}. */
export function explain(error) {
  let code = error?.code;
  if (typeof code !== "string" || !code.startsWith("DK-")) {
    if (error?.name === "AbortError") code = "DK-ABORTED";
    else if (error instanceof RangeError && /memory|allocation|length/i.test(error.message)) code = "DK-MEMORY";
    else if (error?.name === "NotAllowedError" || error?.name === "NotFoundError") code = "DK-CAMERA";
    else if (error instanceof TypeError && /fetch|import|network|load/i.test(error.message)) code = "DK-IO";
    else code = "DK-INTERNAL";
  }
  const words = WORDS[code] ?? "Something went wrong that should not have.";
  const detail = String(error?.message ?? error).replace(new RegExp(`^${code}:\\s*`), "");
  return { code, words, detail };
}

/** Show a problem; the page stays as it is. */
export function show(error) {
  const { code, words, detail } = explain(error);
  const box = byId("problem");
  box.replaceChildren(
    el("p", {}, el("strong", { text: code }), ` ${words}`),
    el("p", { class: "detail", text: detail }),
    el("button", { text: "Close", onclick: hide }),
  );
  box.hidden = false;
}

export function hide() {
  byId("problem").hidden = true;
}
