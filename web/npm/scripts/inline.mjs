// The single-file build: the package's modules joined into one, with the engine and the worker's script as text inside.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

/** A module and what it imports, each once, imported ones first. */
function ordered(folder, name, seen = new Map()) {
  if (seen.has(name)) return seen;
  const text = readFileSync(join(folder, name), "utf8");
  for (const [, from] of text.matchAll(/^(?:im|ex)port .* from "\.\/(.*)";$/gm)) ordered(folder, from, seen);
  return seen.set(name, text);
}

/** Modules as one script: without imports and exports; their top-level names have to differ. */
function joined(modules) {
  const names = new Set();
  return modules.map(([file, text]) => {
    const plain = text.replace(/^(?:import .*|export \{.*\}.*);$|^\/\*!.*\*\/$/gm, "").replace(/^export /gm, "").trim();
    for (const [, name] of plain.matchAll(/^(?:const|let|class|(?:async )?function) (\w+)/gm)) {
      if (names.has(name)) throw new Error(`${file}: '${name}' is a name of another module too; the single-file build needs them to differ.`);
      names.add(name);
    }
    return plain;
  }).filter(Boolean).join("\n");
}

function replaced(text, from, to) {
  if (text.split(from).length !== 2) throw new Error(`expected once: ${from}`);
  return text.replace(from, () => to);
}

/** The text of inline.js from the built modules in `folder` and the engine's code. */
export function inline(folder, engine) {
  const worker = joined([...ordered(folder, "worker.js")]);
  const modules = ordered(folder, "engine.js", ordered(folder, "deploykit.js"));
  const exported = [...modules.get("deploykit.js").matchAll(/^export \{ (.*) \} from/gm)].map((m) => m[1]);
  const order = [...modules].filter(([name]) => name !== "deploykit.js");
  let text = joined([...order.filter(([name]) => name !== "model.js"), ["model.js", modules.get("model.js")]]);
  // no files: what bundlers would look for must not be there
  text = text.replace(/new URL\("\.\/(engine[.a-z]*\.wasm)", import\.meta\.url\)/g, 'new URL("inline:$1")');
  text = replaced(text, 'new Worker(new URL("./worker.js", import.meta.url), { type: "module" })', "scriptWorker(embedded.worker)");
  text = replaced(text, 'import("./engine.js")', "Promise.resolve({ Engine })");
  return `/*! deploykit in one file: built from web/npm/src. */
${text}
embedded.worker = ${JSON.stringify(worker)};
embedded.engine = async () => {
 const packed = Uint8Array.from(atob("${gzipSync(engine, { level: 9 }).toString("base64")}"), (c) => c.charCodeAt(0));
 return new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
};
export { ${exported.join(", ")} };
`;
}
