/*! built from web/npm/src */
export const embedded = {};
export function builtin(name) {
 const { process } = globalThis;
 return process?.getBuiltinModule?.(name) ?? null;
}
