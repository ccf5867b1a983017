// The page: loads the engine and the model, builds what the visitor sees from the description in #page, runs.
import { makeCheck } from "./check.js";
import { byId, bytes, el, table, time } from "./dom.js";
import { makeEditors } from "./editors.js";
import { makeSpeed } from "./measure.js";
import { keep, prepare } from "./offline.js";
import { explain, hide, Problem, show } from "./problems.js";
import { unpack } from "./tensor.js";
import { makeViews } from "./views.js";

const page = JSON.parse(byId("page").textContent);
let model = null;
let busy = false, again = false;

function state(text, kind) {
  byId("state").textContent = text;
  byId("state").dataset.kind = kind;
}

async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Problem("DK-IO", `${name}: the server answered ${response.status} ${response.statusText}.`);
  return response.arrayBuffer();
}

function vectors() {
  vectors.blob ??= fetched(page.blob).catch((error) => {
    vectors.blob = null;
    throw error;
  });
  return vectors.blob;
}

// ------------------------------------------------------------------------------------------------ what is on the page

const editors = makeEditors(byId("inputs"), page.inputs, () => run(true));
const pictured = page.inputs.find((i) => i.editor === "image" || i.editor === "draw");
let views = null;

function feeds() {
  return Object.fromEntries([...editors].map(([name, editor]) => [name, editor.value()]));
}

/** Run what is entered; calls that come meanwhile are answered once, by what is entered then. */
async function run(quietly) {
  if (!model) return;
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    const inputs = feeds();
    hide();
    const start = performance.now();
    const outputs = await model.run(inputs);
    const ms = performance.now() - start;
    views ??= (byId("views").replaceChildren(), makeViews(byId("views"), page.views, () => (pictured ? editors.get(pictured.name).picture() : null)));
    byId("spoken").textContent = views.map((v) => v.show(outputs)).join("; ");
    byId("ran").textContent = `took ${time(ms)}`;
    speed.add(ms);
    if (!sizes.planned) sizes(); // memory is known once shapes are planned
    sizes.planned = true;
  } catch (error) {
    const missing = quietly && explain(error).code === "DK-INPUT"; // another input is still empty: no reason to shout
    if (!missing) show(error);
  } finally {
    busy = false;
  }
  if (again) {
    again = false;
    await run(true);
  } else {
    for (const editor of editors.values()) editor.next?.();
  }
}

function samples() {
  const shown = page.vectors.slice(0, page.samples || (page.inputs.every((i) => i.editor === "tensor") ? 1 : 0));
  if (!shown.length) return;
  const box = byId("samples");
  box.hidden = false;
  box.append(el("p", { class: "row" }, el("span", { class: "quiet", text: "Samples:" }), ...shown.map((v) => el("button", {
    text: v.title,
    onclick: async () => {
      try {
        for (const [name, tensor] of Object.entries(unpack(await vectors(), v.inputs))) editors.get(name).set(tensor);
        await run(false);
      } catch (error) {
        show(error);
      }
    },
  }))));
}

function sizes() {
  const group = (test) => Object.entries(page.sizes).filter(([n]) => test(n)).reduce((a, [, b]) => a + b, 0);
  const came = performance.getEntriesByType("resource").reduce((a, r) => a + (r.transferSize || 0), 0);
  const rows = [
    ["model", bytes(page.sizes[page.model])],
    ["engine offered (each visitor fetches one variant)", bytes(group((n) => n.startsWith("runtime/")))],
    ["page", bytes(group((n) => n.startsWith("page/")))],
    ["fetched for this visit, compressed as the host does", came ? bytes(came) : "0 B, all kept"],
  ];
  rows.push(["engine in use", `${model.info.engine}, kernels ${model.info.isa}`]);
  for (const note of model.info.notes) rows.push(["switched off", note]);
  const memory = model.memory ?? {};
  for (const [key, value] of Object.entries(memory)) if (typeof value === "number") rows.push([`memory: ${key}`, bytes(value)]);
  byId("size").replaceChildren(table("Sizes", ["what", "bytes"], rows, [1]));
}

byId("card").append(table("Model card", null, page.card));
samples();
byId("run").addEventListener("click", () => run(false));
addEventListener("unhandledrejection", (event) => show(event.reason));

// --------------------------------------------------------------------------------------------------------- and the way

let speed = null;

async function start() {
  if (!(await prepare())) {
    state("Reloading once, to get threads …", "busy");
    return;
  }
  let Model;
  try {
    ({ Model } = await import("../runtime/deploykit.js"));
  } catch (error) {
    throw new Problem("DK-IO", `the engine could not be loaded: ${error.message}`);
  }
  const bar = byId("progress");
  bar.hidden = false;
  model = await Model.load(page.model, {
    onProgress: (loaded, total) => {
      bar.value = total ? loaded / total : 0;
      state(`Loading the model: ${bytes(loaded)}${total ? ` of ${bytes(total)}` : ""}`, "busy");
    },
  });
  bar.hidden = true;
  state("Ready", "good");
  byId("run").disabled = false;
  speed = makeSpeed(byId("speed"), model, feeds, (inputs) => model.run(inputs));
  sizes();
  await makeCheck(byId("check"), page, vectors, () => Model.load(page.model)).start();
  byId("offline").textContent = await keep();
  addEventListener("pagehide", (event) => { if (!event.persisted) model?.dispose(); });
}

start().catch((error) => {
  byId("progress").hidden = true;
  state("Not started", "bad");
  show(error);
});
