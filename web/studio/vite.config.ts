// The build goes into the Python package: a machine without Node serves it as it is.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const page = join(import.meta.dirname, "../../src/omni2sound/serve/page");

const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Writes build.json: digests of the sources and of what was built, compared by tests/serve. */
function record(): Plugin {
  const root = import.meta.dirname;
  const named = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];
  return {
    name: "record-digests",
    apply: "build",
    closeBundle() {
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
  build: {
    outDir: page,
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the policy of the page allows no data: scripts or styles
  },
  server: { proxy: { "/v1": "http://127.0.0.1:8765" } },
  plugins: [record()],
});
