/*! Built from web/npm/src by tsc: change it there. */
// The engine of .dk models in browsers, workers and Node.
export { environment } from "./environment.js";
export type { Environment } from "./environment.js";
export type { Source } from "./download.js";
export type { Memory, ProfileRow } from "./engine.js";
export type { Input, Inputs } from "./inputs.js";
export { forgetModels } from "./store.js";
export { Model } from "./model.js";
export type { Info, LoadOptions, RunOptions } from "./model.js";
export { DeploykitError, tensor } from "./values.js";
export type { DType, Spec, Tensor, TypedArray } from "./values.js";
