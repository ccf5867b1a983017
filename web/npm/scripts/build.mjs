// Builds the package: node scripts/build.mjs [--out FOLDER]. Without --out: into dist/, and the modules also into ../engine,
// where they are kept in the repository, so that building a wheel needs no Node.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const at = process.argv.indexOf("--out");
const out = at > 0 ? process.argv[at + 1] : join(root, "dist");
const tsc = join(dirname(createRequire(import.meta.url).resolve("typescript/package.json")), "bin", "tsc");

for (const project of ["tsconfig.json", "tsconfig.types.json"]) {
  execFileSync(process.execPath, [tsc, "-p", join(root, project), "--outDir", out], { stdio: ["ignore", "inherit", "inherit"] });
}
const modules = readdirSync(out).filter((name) => name.endsWith(".js"));
for (const name of modules) {
  const text = readFileSync(join(out, name), "utf8"); // no text of ours has lines that begin inside a literal
  writeFileSync(join(out, name), text.replace(/^( {4})+/gm, (indent) => " ".repeat(indent.length / 4)));
}
if (at < 0) {
  const engine = join(root, "..", "dist", "engine.wasm"); // of web/engine/build.py
  for (const name of modules) copyFileSync(join(out, name), join(root, "..", "engine", name));
  if (existsSync(engine)) copyFileSync(engine, join(out, "engine.wasm"));
}
