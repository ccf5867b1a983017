/*! built from web/npm/src */
import { builtin, embedded } from "./platform.js";
import { DeploykitError } from "./values.js";
export class Lanes {
 assets;
 lost;
 count = 1;
 settled = Promise.resolve();
 note = null;
 threads = [];
 constructor(assets, lost) {
  this.assets = assets;
  this.lost = lost;
 }
 follow(value) {
  const lanes = value?.lanes;
  if (lanes)
   this.settled = Promise.all(lanes.map((lane) => this.start(lane)));
 }
 start(lane) {
  return new Promise((settle) => {
   let inside = false;
   try {
    const thread = start(this.assets, (reply) => {
     if ("error" in reply)
      return failed(reply.error.message);
     if (!("entered" in reply))
      return;
     inside = true;
     ++this.count;
     thread.busy(false);
     settle();
    }, (why) => (inside ? this.lost() : failed(why)));
    const failed = (why) => {
     this.note = `a thread could not be started: ${why}`;
     thread.stop();
     settle();
    };
    this.threads.push(thread);
    thread.post({ id: 0, name: "enter", args: [lane] }, []);
   }
   catch (error) {
    this.note = `a thread could not be started: ${error.message}`;
    settle();
   }
  });
 }
 stop() {
  for (const thread of this.threads)
   thread.stop();
  this.threads = [];
  this.count = 1;
 }
}
const disposed = () => new DeploykitError("DK-INPUT", "the model was disposed; load it again.");
export class Local {
 engine = null;
 closed = false;
 code = import("./engine.js");
 lanes;
 constructor(assets) {
  this.lanes = new Lanes(assets, () => { });
  this.code.catch(() => { });
 }
 async call(name, args, { signal } = {}) {
  signal?.throwIfAborted();
  if (name === "open") {
   const { Engine } = await this.code;
   const [engine, loaded] = await Engine.open(...args);
   this.engine = engine;
   this.lanes.follow(loaded);
   return loaded;
  }
  if (this.closed)
   throw disposed();
  const value = this.engine[name](...args);
  this.lanes.follow(value);
  return value;
 }
 close() {
  this.closed = true;
  this.engine = null;
  this.lanes.stop();
 }
}
export class Remote {
 waiting = [];
 current = null;
 ended = null;
 count = 0;
 worker;
 lanes;
 constructor(assets) {
  this.lanes = new Lanes(assets, () => this.end(new DeploykitError("DK-ENGINE", STOPPED)));
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
  const job = this.current;
  if (!job || !("id" in reply) || job.id !== reply.id)
   return;
  this.current = null;
  if ("error" in reply) {
   job.reject(new DeploykitError(reply.error.code, reply.error.message));
  }
  else {
   this.lanes.follow(reply.value);
   job.resolve(reply.value);
  }
  this.next();
 }
 end(error) {
  if (this.ended)
   return;
  this.ended = error;
  this.worker.stop();
  this.lanes.stop();
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
  if ("lock" in data)
   navigator.locks.request(data.lock, () => ended(STOPPED)).catch(() => { });
  else
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
