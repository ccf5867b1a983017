/*! built from web/npm/src */
import "./binary.js";
import "./connection.js";
import "./dkfile.js";
import "./download.js";
import "./inputs.js";
import "./platform.js";
export { environment } from "./environment.js";
export { forgetModels } from "./store.js";
export { Model } from "./model.js";
export { DeploykitError, tensor } from "./values.js";
