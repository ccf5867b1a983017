/*! Built from web/npm/src by tsc: change it there. */
export const embedded = {};
export function builtin(name) {
 const { process } = globalThis;
 return process?.getBuiltinModule?.(name) ?? null;
}
