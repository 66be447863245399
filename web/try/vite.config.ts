// The build goes into the Python package: a machine without Node serves it as it is.
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const root = import.meta.dirname;
const page = join(root, "../../src/omni2sound/browser/page");
const ort = "ort-wasm-simd-threaded";
const dist = join(root, "node_modules/onnxruntime-web/dist");
const code = gzipSync(readFileSync(join(dist, `${ort}.wasm`)), { level: 9 });

const MIT = `MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`; // ONNX Runtime Web's package has no text of its own

const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Name, version, licence and source of each package that is built in, and the licence's text. */
function notices(): string {
  const dependencies = JSON.parse(readFileSync(join(root, "package.json"), "utf-8")).dependencies as object;
  const told = Object.keys(dependencies).map((name) => {
    const folder = join(root, "node_modules", name);
    const { version, license, repository } = JSON.parse(readFileSync(join(folder, "package.json"), "utf-8"));
    const text = readdirSync(folder).find((file) => /^licen[sc]e/i.test(file));
    const source = repository.url.replace(/^git\+/, "");
    return `${name} ${version} (${license}), unchanged; source: ${source}\n\n${text ? readFileSync(join(folder, text), "utf-8") : MIT}\n`;
  });
  return told.join("\n----\n\n");
}

/** Adds the runtime's files, and build.json: digests of sources and build, compared by a test. */
function finish(): Plugin {
  const named = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];
  return {
    name: "runtime-and-digests",
    apply: "build",
    closeBundle() {
      mkdirSync(join(page, "ort"), { recursive: true });
      writeFileSync(join(page, "ort", `${ort}.wasm.packed`), code);
      copyFileSync(join(dist, `${ort}.mjs`), join(page, "ort", `${ort}.mjs`));
      writeFileSync(join(page, "notices.txt"), notices());
      const digests = (files: string[], from: string) =>
        Object.fromEntries(
          files
            .map((file) => [file.slice(from.length + 1).replaceAll("\\", "/"), sha256(readFileSync(file))])
            .sort(([a], [b]) => (a! < b! ? -1 : 1)),
        );
      const sources = [...named.map((name) => join(root, name)), ...filesUnder(join(root, "src"))];
      const built = filesUnder(page).filter((file) => !file.endsWith("build.json"));
      const recorded = { sources: digests(sources, root), built: digests(built, page) };
      writeFileSync(join(page, "build.json"), `${JSON.stringify(recorded, null, 1)}\n`);
    },
  };
}

export default defineConfig({
  base: "./",
  define: { __ORT__: JSON.stringify(ort), __ORT_BYTES__: String(code.length) },
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser"] },
  build: {
    outDir: page,
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the policy of the page allows no data: scripts or styles
    rollupOptions: {
      input: {
        index: join(root, "index.html"),
        worker: join(root, "src/worker.ts"),
        runtime: join(root, "src/runtime/index.ts"), // for tests
      },
      preserveEntrySignatures: "strict",
      output: { entryFileNames: (chunk) => (chunk.name === "index" ? "assets/[name]-[hash].js" : "[name].js") },
    },
  },
  plugins: [finish()],
});
