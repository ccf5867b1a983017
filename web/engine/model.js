/*! Built from web/npm/src by tsc: change it there. */
import { Local, Remote } from "./connection.js";
import { engineModule } from "./binary.js";
import { read } from "./download.js";
import { pack } from "./inputs.js";
import { DeploykitError } from "./values.js";
const forgotten = new FinalizationRegistry((connection) => connection.close());
export class Model {
 connection;
 remote;
 parent;
 inputs;
 outputs;
 metadata;
 signatures;
 isa;
 threads = 1;
 session;
 used;
 closed = false;
 constructor(connection, remote, loaded, opened, parent) {
  this.connection = connection;
  this.remote = remote;
  this.parent = parent;
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
  const { worker = true, maxMemory = 0, maxOps = 0, assets, signal } = options;
  const base = assets === undefined ? undefined : new URL(assets, globalThis.document?.baseURI ?? import.meta.url);
  signal?.throwIfAborted();
  const connection = worker ? new Remote(base) : new Local();
  const download = new AbortController(), stop = () => download.abort(signal?.reason);
  signal?.addEventListener("abort", stop);
  try {
   const [module, { bytes, own }] = await Promise.all([engineModule(base), read(source, { ...options, signal: download.signal })]);
   const given = worker && !own ? bytes.slice() : bytes;
   const transfer = worker ? [given.buffer] : [];
   const loaded = await connection.call("open", [module, given, { maxMemory, maxOps }], { transfer, signal });
   return new Model(connection, worker, loaded, loaded, null);
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
  return new Model(this.connection, this.remote, this.loaded, opened, this.parent ?? this);
 }
 async variable(name) {
  this.open();
  return this.connection.call("variable", [this.session, name]);
 }
 async reset() {
  this.open();
  await this.connection.call("reset", [this.session]);
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
