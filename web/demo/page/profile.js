// Opens any .dk file: raw numbers in and out, speed, time of every op, what the file says of itself.
import { byId, bytes, table, time } from "./dom.js";
import { makeEditors } from "./editors.js";
import { makeSpeed } from "./measure.js";
import { keep, prepare } from "./offline.js";
import { hide, Problem, show } from "./problems.js";
import { makeViews } from "./views.js";

const page = JSON.parse(byId("page").textContent);
const GUESS = 1; // size of symbolic dims until the visitor says otherwise
let Model, model, editors, views, speed;

function state(text, kind) {
  byId("state").textContent = text;
  byId("state").dataset.kind = kind;
}

const dims = (spec) => (spec.shape ?? []).map((d) => (typeof d === "number" && d >= 0 ? d : String(d)));
const type = (spec) => `${spec.dtype} ${spec.shape ? `[${dims(spec).join(", ")}]` : "of any shape"}`;
const feeds = () => Object.fromEntries([...editors].map(([name, editor]) => [name, editor.value()]));

async function open(data, name) {
  try {
    hide();
    state(`Opening ${name} …`, "busy");
    const fresh = await Model.load(new Uint8Array(data));
    model?.dispose();
    model = fresh;
    for (const id of ["inputs", "views", "speed", "card"]) byId(id).replaceChildren();
    views = null;
    const inputs = model.inputs.map((s) => ({ name: s.name, dtype: s.dtype, shape: dims(s), example: dims(s).map((d) => (typeof d === "number" ? d : GUESS)), editor: "tensor" }));
    editors = makeEditors(byId("inputs"), inputs, run);
    speed = makeSpeed(byId("speed"), model, feeds, (x) => model.run(x));
    const rows = [["file", name], ["size", bytes(data.byteLength)]];
    for (const s of model.inputs) rows.push([`input ${s.name}`, type(s)]);
    for (const s of model.outputs) rows.push([`output ${s.name}`, type(s)]);
    for (const [key, value] of Object.entries(model.metadata ?? {})) rows.push([key, (typeof value === "string" ? value : JSON.stringify(value)).slice(0, 400)]);
    byId("card").append(table("Model card", null, rows));
    byId("opened-model").hidden = false;
    state(`Opened ${name}`, "good");
    await run();
  } catch (error) {
    state(model ? "The file before is still open" : "Nothing is open", "bad");
    show(error);
  }
}

async function run() {
  try {
    hide();
    const start = performance.now();
    const outputs = await model.run(feeds());
    const ms = performance.now() - start;
    views ??= makeViews(byId("views"), model.outputs.map((s) => ({ view: "tensor", outputs: [s.name] })), () => null);
    byId("spoken").textContent = views.map((v) => v.show(outputs)).join("; ");
    byId("ran").textContent = `took ${time(ms)}`;
    speed.add(ms);
  } catch (error) {
    show(error);
  }
}

const take = async (file) => open(await file.arrayBuffer(), file.name);

async function start() {
  if (!(await prepare())) return;
  try {
    ({ Model } = await import("../runtime/deploykit.js"));
  } catch (error) {
    throw new Problem("DK-IO", `the engine could not be loaded: ${error.message}`);
  }
  const zone = byId("zone"), file = byId("file");
  file.addEventListener("change", () => { if (file.files[0]) take(file.files[0]); file.value = ""; });
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  addEventListener("dragover", (event) => event.preventDefault()); // a file that misses the zone must not replace the page
  addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
  byId("run").addEventListener("click", run);
  byId("sample").addEventListener("click", async () => {
    try {
      const response = await fetch(page.sample);
      if (!response.ok) throw new Problem("DK-IO", `${page.sample}: the server answered ${response.status}.`);
      await open(await response.arrayBuffer(), page.sample);
    } catch (error) {
      show(error);
    }
  });
  state("Ready", "good");
  byId("offline").textContent = await keep();
}

start().catch((error) => {
  state("Not started", "bad");
  show(error);
});
