// Fine-tuning in the browser: the visitor draws examples, the model's `train` signature teaches its last layer, the model that
// comes out is saved as a .dk file.
import { byId, el, time } from "./dom.js";
import { makeEditors } from "./editors.js";
import { paint, toPixels } from "../runtime/image.js";
import { keep, prepare } from "./offline.js";
import { hide, Problem, show } from "./problems.js";
import { make, probabilities, unpack } from "./tensor.js";
import { makeViews } from "./views.js";

const page = JSON.parse(byId("page").textContent);
const STEPS = 100;
const [spec] = page.inputs;
const [output] = page.outputs;
const labels = page.views[0].labels;
const examples = []; // {tensor, label}
let bytes, model, trainer, views;

const editor = makeEditors(byId("inputs"), page.inputs, ask).get(spec.name);

function state(text, kind) {
  byId("state").textContent = text;
  byId("state").dataset.kind = kind;
}

async function ask() {
  try {
    if (!model) return;
    hide();
    const outputs = await model.run({ [spec.name]: editor.value() });
    views ??= (byId("views").replaceChildren(), makeViews(byId("views"), page.views, () => null));
    byId("spoken").textContent = views.map((v) => v.show(outputs)).join("; ");
  } catch (error) {
    show(error);
  }
}

function add() {
  try {
    hide();
    const tensor = editor.value(), label = Number(byId("label").value);
    const picture = el("canvas", { class: "look", role: "img", "aria-label": `Example of ${labels[label]}` });
    paint(picture, toPixels(tensor, spec), spec.width, spec.height);
    examples.push({ tensor, label });
    byId("examples").append(el("li", {}, picture, el("span", { text: labels[label] })));
    count();
  } catch (error) {
    show(error);
  }
}

function count() {
  byId("count").textContent = examples.length ? `${examples.length} ${examples.length === 1 ? "example" : "examples"}` : "No examples yet.";
  byId("teach").disabled = byId("forget").disabled = !examples.length;
}

/** All examples as one batch. */
function batch() {
  const shape = [examples.length, ...spec.example.slice(1)], one = examples[0].tensor.data.length;
  const x = make(spec.dtype, shape);
  examples.forEach(({ tensor }, i) => x.data.set(tensor.data, i * one));
  return { x, y: make("int32", [examples.length], examples.map((e) => e.label)) };
}

/** How many examples the model gets right, and its cross entropy over them. */
async function score({ x, y }) {
  const { data } = (await model.run({ [spec.name]: x }))[output.name], n = labels.length;
  let right = 0, loss = 0;
  y.data.forEach((label, i) => {
    const row = probabilities(data.subarray(i * n, (i + 1) * n)).values;
    if (row.indexOf(Math.max(...row)) === label) ++right;
    loss -= Math.log(Math.max(row[label], 1e-7)) / y.data.length;
  });
  return { right, loss };
}

async function teach() {
  byId("teach").disabled = true;
  try {
    hide();
    const { x, y } = batch(), before = await score({ x, y }), start = performance.now();
    for (let i = 0; i < STEPS; ++i) {
      await trainer.run({ [spec.name]: x, y });
      if (i % 10 === 9) {
        byId("taught").textContent = `Step ${i + 1} of ${STEPS} …`;
        await new Promise((done) => setTimeout(done)); // lets the page breathe
      }
    }
    const ms = performance.now() - start, after = await score({ x, y });
    byId("taught").textContent = `${STEPS} steps in ${time(ms)}. Right before: ${before.right} of ${examples.length} (loss ${before.loss.toFixed(3)}); now: ${after.right} (loss ${after.loss.toFixed(3)}).`;
    byId("save").disabled = false;
    try {
      editor.value(); // something is drawn: show what the model thinks of it now
    } catch {
      return;
    }
    await ask();
  } catch (error) {
    show(error);
  } finally {
    byId("teach").disabled = !examples.length;
  }
}

/** The file with the weights as they are now; the optimizer starts anew in it. */
async function taught() {
  const { variables, withVariables } = await import("../runtime/dkfile.js");
  const values = {};
  for (const v of variables(bytes)) if (page.trained.includes(v.name)) values[v.name] = (await model.variable(v.name)).data;
  return withVariables(bytes, values);
}

async function save() {
  try {
    const url = URL.createObjectURL(new Blob([await taught()], { type: "application/octet-stream" }));
    el("a", { href: url, download: "digits-taught.dk" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  } catch (error) {
    show(error);
  }
}

async function start() {
  if (!(await prepare())) return;
  let Model;
  try {
    ({ Model } = await import("../runtime/deploykit.js"));
  } catch (error) {
    throw new Problem("DK-IO", `the engine could not be loaded: ${error.message}`);
  }
  const response = await fetch(page.model);
  if (!response.ok) throw new Problem("DK-IO", `${page.model}: the server answered ${response.status}.`);
  bytes = new Uint8Array(await response.arrayBuffer());
  model = await Model.load(bytes);
  trainer = await model.signature("train"); // shares the variables
  const blob = await (await fetch(page.blob)).arrayBuffer();
  byId("samples").append(...page.vectors.slice(0, page.samples).map((v) => el("button", { text: v.title, onclick: () => {
    editor.set(unpack(blob, v.inputs)[spec.name]);
    byId("label").value = String(labels.indexOf(v.title));
    ask();
  } })));
  byId("label").append(...labels.map((text, i) => el("option", { value: String(i), text })));
  byId("add").addEventListener("click", add);
  byId("teach").addEventListener("click", teach);
  byId("save").addEventListener("click", save);
  byId("forget").addEventListener("click", () => { examples.length = 0; byId("examples").replaceChildren(); count(); });
  byId("add").disabled = false;
  count();
  state("Ready", "good");
  byId("offline").textContent = await keep();
}

start().catch((error) => {
  state("Not started", "bad");
  show(error);
});
