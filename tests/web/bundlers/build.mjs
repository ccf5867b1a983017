// Builds the app with one bundler: node build.mjs BUNDLER APP OUT. APP is a copy of app/ with the package in node_modules.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [bundler, app, out] = process.argv.slice(2);
const from = (name) => join(app, name);
mkdirSync(out, { recursive: true });

/** The page that names a script built elsewhere; `assets`: where engine.wasm and worker.js were copied to. */
function html(assets = "") {
  const page = readFileSync(from("index.html"), "utf8");
  writeFileSync(join(out, "index.html"), assets ? page.replace("<html", `<html data-assets="${assets}"`) : page);
}
const copyAssets = () => (cpSync(from("node_modules/deploykit/dist"), join(out, "deploykit"), { recursive: true }), html("deploykit/"));

const builds = {
  async none() {
    cpSync(app, out, { recursive: true });
    const map = '<script type="importmap">{"imports": {"deploykit": "./node_modules/deploykit/dist/deploykit.js"}}</script>';
    writeFileSync(join(out, "index.html"), readFileSync(from("index.html"), "utf8").replace("<title>", `${map}<title>`));
  },
  async vite() {
    const { build } = await import("vite");
    await build({ root: app, base: "./", configFile: false, logLevel: "warn", build: { outDir: out, emptyOutDir: true } });
  },
  async webpack() {
    const { default: webpack } = await import("webpack");
    const stats = await new Promise((done, failed) => {
      webpack({ mode: "production", context: app, entry: "./main.js", output: { path: out, filename: "main.js" }, performance: { hints: false } }, (error, s) => (error ? failed(error) : done(s)));
    });
    if (stats.hasErrors() || stats.hasWarnings()) throw new Error(stats.toString());
    html();
  },
  async rollup() {
    const { rollup } = await import("rollup");
    const { nodeResolve } = await import("@rollup/plugin-node-resolve");
    const bundle = await rollup({ input: from("main.js"), plugins: [nodeResolve({ browser: true })], onwarn: (w) => { throw new Error(w.message); } });
    await bundle.write({ dir: out, format: "es" });
    copyAssets();
  },
  async esbuild() {
    const { build } = await import("esbuild");
    const { warnings } = await build({ entryPoints: [from("main.js")], bundle: true, format: "esm", outfile: join(out, "main.js"), logLevel: "silent" });
    if (warnings.length) throw new Error(JSON.stringify(warnings));
    copyAssets();
  },
  async inline() {
    const { build } = await import("esbuild");
    await build({ entryPoints: [from("inline.js")], bundle: true, format: "esm", outfile: join(out, "main.js"), logLevel: "silent" });
    html();
  },
  async "inline-none"() {
    cpSync(from("node_modules/deploykit/dist/inline.js"), join(out, "deploykit.js"));
    cpSync(from("run.js"), join(out, "run.js"));
    writeFileSync(join(out, "main.js"), readFileSync(from("inline.js"), "utf8").replace("deploykit/inline", "./deploykit.js"));
    html();
  },
  async parcel() {
    const { Parcel } = await import("@parcel/core");
    const config = createRequire(import.meta.url).resolve("@parcel/config-default");
    process.chdir(app); // it looks for its entries from there
    const { bundleGraph } = await new Parcel({
      entries: "index.html", defaultConfig: config, mode: "production", shouldDisableCache: true, shouldContentHash: true,
      defaultTargetOptions: { distDir: out, publicUrl: "./", sourceMaps: false }, logLevel: "warn",
    }).run();
    if (!bundleGraph.getBundles().length) throw new Error("nothing was built");
  },
};
await builds[bundler]();
