/*! built from web/npm/src */
import "./dkfile.js";
import { Engine } from "./engine.js";
import { builtin } from "./platform.js";
import { DeploykitError } from "./values.js";
const node = builtin("node:worker_threads");
const port = (node?.parentPort ?? globalThis);
let engine = null;
async function open(module, bytes, options) {
 const [[made, loaded]] = await Promise.all([Engine.open(module, bytes, options), held]);
 engine = made;
 return loaded;
}
async function answer({ id, name, args }) {
 try {
  if (name === "enter")
   await held;
  if (name === "enter")
   return await Engine.enter(args[0], () => port.postMessage({ entered: true }));
  const value = name === "open" ? await open(...args) : engine[name](...args);
  port.postMessage({ id, value }, buffers(value));
 }
 catch (error) {
  port.postMessage({ id, error: coded(error) });
 }
}
function coded(error) {
 if (error instanceof DeploykitError)
  return { code: error.code, message: error.message };
 const { message } = error;
 return error instanceof RangeError ? { code: "DK-MEMORY", message: `the worker ran out of memory: ${message}` } : { code: "DK-INTERNAL", message: `${message}. Please report it with the model.` };
}
function buffers(value) {
 const found = new Set();
 const outputs = value?.outputs;
 for (const tensor of [value, ...Object.values(outputs ?? {})]) {
  const data = tensor?.data;
  if (ArrayBuffer.isView(data))
   found.add(data.buffer);
 }
 return [...found];
}
const held = new Promise((done) => {
 if (node || !globalThis.navigator?.locks)
  return done();
 const lock = `deploykit-${crypto.randomUUID()}`;
 navigator.locks.request(lock, () => (port.postMessage({ lock }), done(), new Promise(() => { }))).catch(() => done());
});
if (node?.parentPort)
 node.parentPort.on("message", (message) => void answer(message));
else
 globalThis.addEventListener("message", (event) => void answer(event.data));
