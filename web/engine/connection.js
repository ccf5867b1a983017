/*! Built from web/npm/src by tsc: change it there. */
import { builtin, embedded } from "./platform.js";
import { DeploykitError } from "./values.js";
const disposed = () => new DeploykitError("DK-INPUT", "the model was disposed; load it again.");
export class Local {
 engine = null;
 closed = false;
 async call(name, args, { signal } = {}) {
  signal?.throwIfAborted();
  if (name === "open") {
   const { Engine } = await import("./engine.js");
   const [engine, loaded] = await Engine.open(...args);
   this.engine = engine;
   return loaded;
  }
  if (this.closed)
   throw disposed();
  return this.engine[name](...args);
 }
 close() {
  this.closed = true;
  this.engine = null;
 }
}
export class Remote {
 waiting = [];
 current = null;
 ended = null;
 count = 0;
 worker;
 constructor(assets) {
  this.worker = start(assets, (reply) => this.receive(reply), (why) => this.end(new DeploykitError("DK-ENGINE", why)));
 }
 call(name, args, { transfer = [], signal } = {}) {
  return new Promise((resolve, reject) => {
   if (signal?.aborted)
    return reject(signal.reason);
   if (this.ended)
    return reject(this.ended);
   const job = { id: ++this.count, name, args, transfer, resolve: resolve, reject };
   if (signal) {
    const stop = () => {
     const at = this.waiting.indexOf(job);
     if (at >= 0)
      this.waiting.splice(at, 1);
     reject(signal.reason);
    };
    signal.addEventListener("abort", stop);
    const settle = () => signal.removeEventListener("abort", stop);
    job.resolve = (value) => (settle(), resolve(value));
    job.reject = (error) => (settle(), reject(error));
   }
   this.waiting.push(job);
   this.next();
  });
 }
 next() {
  if (this.current)
   return;
  const job = this.waiting.shift();
  if (!job)
   return this.worker.busy(false);
  this.current = job;
  this.worker.busy(true);
  try {
   this.worker.post({ id: job.id, name: job.name, args: job.args }, job.transfer);
  }
  catch (error) {
   this.current = null;
   job.reject(new DeploykitError("DK-INPUT", `the worker does not take this: ${error.message}.`));
   this.next();
  }
 }
 receive(reply) {
  if ("lock" in reply) {
   const gone = () => this.end(new DeploykitError("DK-ENGINE", STOPPED));
   navigator.locks.request(reply.lock, gone).catch(() => { });
   return;
  }
  const job = this.current;
  if (!job || job.id !== reply.id)
   return;
  this.current = null;
  if ("error" in reply)
   job.reject(new DeploykitError(reply.error.code, reply.error.message));
  else
   job.resolve(reply.value);
  this.next();
 }
 end(error) {
  if (this.ended)
   return;
  this.ended = error;
  this.worker.stop();
  for (const job of [this.current, ...this.waiting])
   job?.reject(error);
  this.current = null;
  this.waiting.length = 0;
 }
 close() {
  this.end(disposed());
 }
}
const STOPPED = "the worker of this model was stopped, perhaps because memory ran out. Load the model again.";
const UNSTARTED = "the worker could not be started: worker.js has to lie beside deploykit.js (or where the option 'assets' says), and the page's policy has to allow it. Or load the model with {worker: false}.";
function start(assets, receive, ended) {
 const here = import.meta.url;
 const threads = typeof Worker === "undefined" ? builtin("node:worker_threads") : null;
 if (threads) {
  const worker = new threads.Worker(embedded.worker ?? new URL("worker.js", assets ?? here), { name: "deploykit", eval: embedded.worker !== undefined });
  worker.on("message", receive);
  worker.on("error", ((error) => ended(/Cannot find module/.test(error.message) ? UNSTARTED : `${STOPPED} (${error.message})`)));
  worker.on("exit", () => ended(STOPPED));
  return {
   post: (message, transfer) => worker.postMessage(message, transfer),
   busy: (yes) => (yes ? worker.ref() : worker.unref()),
   stop: () => void worker.terminate(),
  };
 }
 let heard = false;
 const worker = browserWorker(assets, here);
 worker.onmessage = ({ data }) => {
  heard = true;
  receive(data);
 };
 worker.onerror = (event) => {
  event.preventDefault?.();
  ended(heard ? `${STOPPED} (${event.message})` : UNSTARTED);
 };
 return { post: (message, transfer) => worker.postMessage(message, transfer), busy: () => { }, stop: () => worker.terminate() };
}
function browserWorker(assets, here) {
 if (embedded.worker !== undefined)
  return scriptWorker(embedded.worker);
 if (!assets) {
  try {
   return new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  }
  catch (error) {
   if (error.name !== "SecurityError")
    throw error;
  }
 }
 const url = new URL("worker.js", assets ?? here);
 if (url.origin === globalThis.location?.origin)
  return new Worker(url, { type: "module" });
 return scriptWorker(`import ${JSON.stringify(url.href)};`);
}
function scriptWorker(text) {
 const blob = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
 const worker = new Worker(blob, { type: "module" });
 setTimeout(() => URL.revokeObjectURL(blob), 60000);
 return worker;
}
