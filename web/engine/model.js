/*! built from web/npm/src */
import { Local, Remote } from "./connection.js";
import { engineModule } from "./binary.js";
import { read } from "./download.js";
import { environment } from "./environment.js";
import { pack } from "./inputs.js";
import { DeploykitError } from "./values.js";
const MOST_THREADS = 4;
const forgotten = new FinalizationRegistry((connection) => connection.close());
export class Model {
 connection;
 remote;
 parent;
 chosen;
 inputs;
 outputs;
 metadata;
 signatures;
 isa;
 session;
 used;
 closed = false;
 constructor(connection, remote, loaded, opened, parent, chosen) {
  this.connection = connection;
  this.remote = remote;
  this.parent = parent;
  this.chosen = chosen;
  this.inputs = opened.inputs;
  this.outputs = opened.outputs;
  this.session = opened.session;
  this.used = opened.memory;
  this.metadata = loaded.metadata;
  this.signatures = loaded.signatures;
  this.isa = loaded.isa;
  this.loaded = loaded;
  if (!parent)
   forgotten.register(this, connection, this);
 }
 loaded;
 static async load(source, options = {}) {
  const { worker = true, threads, maxMemory = 0, maxOps = 0, assets, signal } = options;
  if (threads !== undefined && !(Number.isInteger(threads) && threads > 0))
   throw new DeploykitError("DK-INPUT", `the option 'threads' is ${String(threads)}; give a whole number from 1.`);
  const base = assets === undefined ? undefined : new URL(assets, globalThis.document?.baseURI ?? import.meta.url);
  signal?.throwIfAborted();
  const connection = worker ? new Remote(base) : new Local(base);
  const download = new AbortController(), stop = () => download.abort(signal?.reason);
  signal?.addEventListener("abort", stop);
  try {
   const [chosen, { bytes, own }] = await Promise.all([engineModule(base), read(source, { ...options, signal: download.signal })]);
   const given = worker && !own ? bytes.slice() : bytes;
   const transfer = worker ? [given.buffer] : [];
   const lanes = threads ?? Math.min(MOST_THREADS, environment().cores), eager = threads !== undefined && threads > 1;
   const loaded = await connection.call("open", [chosen.module, given, { threads: lanes, eager, maxMemory, maxOps }], { transfer, signal });
   await connection.lanes.settled;
   return new Model(connection, worker, loaded, loaded, null, chosen);
  }
  catch (error) {
   stop();
   connection.close();
   throw error;
  }
  finally {
   signal?.removeEventListener("abort", stop);
  }
 }
 async run(inputs, { signal, timeout = 0 } = {}) {
  const { outputs, memory } = await this.send("run", inputs, [timeout], signal);
  this.used = memory;
  return outputs;
 }
 profile(inputs, { runs = 20, signal } = {}) {
  return this.send("profile", inputs, [runs], signal);
 }
 async send(name, inputs, rest, signal) {
  this.open();
  let packed = pack(this.inputs, inputs);
  if (!this.remote)
   return this.connection.call(name, [this.session, packed, ...rest], { signal });
  packed = packed.map(({ bytes, shape }) => ({ bytes: bytes.slice(), shape }));
  const transfer = packed.map(({ bytes }) => bytes.buffer);
  return this.connection.call(name, [this.session, packed, ...rest], { transfer, signal });
 }
 async signature(name) {
  this.open();
  const opened = await this.connection.call("signature", [name]);
  return new Model(this.connection, this.remote, this.loaded, opened, this.parent ?? this, this.chosen);
 }
 async variable(name) {
  this.open();
  return this.connection.call("variable", [this.session, name]);
 }
 async reset() {
  this.open();
  await this.connection.call("reset", [this.session]);
 }
 get info() {
  const { isa, version } = this.loaded, { count, note } = this.connection.lanes;
  return { engine: this.chosen.name, isa, version, threads: count, notes: [...this.chosen.notes, ...(note ? [note] : [])] };
 }
 get threads() {
  return this.connection.lanes.count;
 }
 get memory() {
  return { ...this.used };
 }
 dispose() {
  if (this.closed)
   return;
  this.closed = true;
  if (this.parent) {
   this.connection.call("close", [this.session]).catch(() => { });
  }
  else {
   forgotten.unregister(this);
   this.connection.close();
  }
 }
 open() {
  if (this.closed || this.parent?.closed)
   throw new DeploykitError("DK-INPUT", "the model was disposed; load it again.");
 }
}
if (Symbol.dispose)
 Object.defineProperty(Model.prototype, Symbol.dispose, { value: Model.prototype.dispose, writable: true, configurable: true });
