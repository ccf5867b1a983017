/*! built from web/npm/src */
// The engine of .dk models in browsers, workers and Node.
// What the modules below ask for in their turn: named here, a browser fetches all at once instead of level by level.
import "./binary.js";
import "./connection.js";
import "./dkfile.js";
import "./download.js";
import "./inputs.js";
import "./platform.js";
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
