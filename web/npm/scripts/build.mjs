// Builds the package: node scripts/build.mjs [--out FOLDER] [--engine FOLDER]. Without --out: into dist/, and the modules
// also into ../engine, where they are kept in the repository, so that building a wheel needs no Node. With an engine
// (a folder of .wasm files, by default that of ../engine/build.py, if it is there) also the single-file build, dist/inline.js.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { inline } from "./inline.mjs";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const option = (name, otherwise) => (process.argv.includes(name) ? resolve(process.argv[process.argv.indexOf(name) + 1]) : otherwise);
const dist = join(root, "dist"), out = option("--out", dist), engine = option("--engine", join(root, "..", "dist"));
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");

for (const project of ["tsconfig.json", "tsconfig.types.json"]) {
  execFileSync(process.execPath, [tsc, "-p", join(root, project), "--outDir", out], { stdio: ["ignore", "inherit", "inherit"] });
}
const modules = readdirSync(out).filter((name) => name.endsWith(".js") && name !== "inline.js");
for (const name of modules) {
  const text = readFileSync(join(out, name), "utf8"); // no text of ours has lines that begin inside a literal
  writeFileSync(join(out, name), text.replace(/^( {4})+/gm, (indent) => " ".repeat(indent.length / 4)));
  if (out === dist) copyFileSync(join(out, name), join(root, "..", "engine", name));
}
if (existsSync(join(engine, "engine.wasm"))) {
  for (const name of readdirSync(engine).filter((f) => f.endsWith(".wasm"))) copyFileSync(join(engine, name), join(out, name));
  writeFileSync(join(out, "inline.js"), inline(out, readFileSync(join(engine, "engine.wasm"))));
}
