/*! Built from web/npm/src by tsc: change it there. */
export { environment } from "./environment.js";
export { forgetModels } from "./store.js";
export { Model } from "./model.js";
export { DeploykitError, tensor } from "./values.js";
