// Builds `dist/`: the modules and types by TypeScript, and of them one file for pages without a bundler, twice: as an
// ES module, and as a classic script that defines `Tidegate`. Source maps carry the sources.

import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const ROOT = fileURLToPath(new URL(".", import.meta.url));

rmSync(`${ROOT}dist`, { recursive: true, force: true });
execFileSync(process.execPath, [`${ROOT}node_modules/typescript/bin/tsc`, "-p", ROOT], { stdio: "inherit" });

const common = {
  absWorkingDir: ROOT,
  entryPoints: ["src/index.ts"],
  bundle: true,
  minify: true,
  // A debugger and an error's stack show the classes by their names.
  keepNames: true,
  sourcemap: true,
  target: "es2022",
  legalComments: "none",
  banner: { js: "/* tidegate-client, Apache-2.0 */" },
};
await build({ ...common, format: "esm", outfile: "dist/tidegate.js" });
await build({ ...common, format: "iife", globalName: "Tidegate", outfile: "dist/tidegate.classic.js" });
