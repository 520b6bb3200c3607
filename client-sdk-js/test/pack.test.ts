/** The package as npm would publish it: what is in it, and what the tools that judge packages say. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { runInNewContext } from "node:vm";
import { gzipSync } from "node:zlib";
import { publint } from "publint";
import { formatMessage } from "publint/utils";

/** From dist-test/test, where the tests run. */
const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

describe("the tarball", () => {
  let directory: string;
  let packed: { filename: string; files: { path: string }[]; size: number };

  before(() => {
    directory = mkdtempSync(join(tmpdir(), "tidegate-pack-"));
    // Without scripts: what the tests read must not be built anew under them.
    const args = ["pack", "--json", "--ignore-scripts", "--pack-destination", directory];
    const answer = JSON.parse(execFileSync("npm", args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
    packed = (Array.isArray(answer) ? answer : Object.values(answer))[0];
  });

  after(() => rmSync(directory, { recursive: true, force: true }));

  it("has what it needs and nothing else", () => {
    const paths = packed.files.map(({ path }) => path);
    for (const needed of ["LICENSE", "README.md", "CHANGELOG.md", "package.json"]) assert.ok(paths.includes(needed), needed);
    for (const built of ["index.js", "index.d.ts", "tidegate.js", "tidegate.js.map", "tidegate.classic.js", "tidegate.classic.js.map"]) {
      assert.ok(paths.includes(`dist/${built}`), built);
    }
    const others = paths.filter((path) => !/^(LICENSE|README\.md|CHANGELOG\.md|package\.json|dist\/[\w.]+\.(js|js\.map|d\.ts))$/.test(path));
    assert.deepEqual(others, []);
    assert.equal(read("LICENSE"), read("../LICENSE"), "the licence is the project's");
  });

  it("is what `attw` calls fit for every way in which types are found, but CommonJS", () => {
    const attw = join(ROOT, "node_modules/@arethetypeswrong/cli/dist/index.js");
    execFileSync(process.execPath, [attw, join(directory, packed.filename), "--profile", "esm-only", "--no-color"], { encoding: "utf8" });
  });

  it("leaves publint nothing to say", async () => {
    const bytes = readFileSync(join(directory, packed.filename));
    const tarball = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
    const { messages, pkg } = await publint({ pack: { tarball }, strict: true });
    assert.deepEqual(messages.map((message) => formatMessage(message, pkg as never, { color: false })), []);
  });

  it("is as large as the README says, or smaller", () => {
    const told = /one file, (\d+) KiB \((\d+) KiB gzipped\)/.exec(read("README.md"));
    assert.ok(told !== null, "the README tells the size");
    for (const file of ["tidegate.js", "tidegate.classic.js"]) {
      const bytes = readFileSync(join(ROOT, "dist", file));
      const [whole, zipped] = [bytes.length, gzipSync(bytes).length].map((size) => size / 1024);
      assert.ok((whole ?? 0) <= Number(told[1]) && (zipped ?? 0) <= Number(told[2]), `${file}: ${whole} KiB, ${zipped} KiB gzipped`);
    }
  });
});

describe("the one-file builds", () => {
  it("export the same as the modules", async () => {
    const names = Object.keys(await import("../src/index.js")).sort();
    const whole = new URL("../../dist/tidegate.js", import.meta.url).href;
    assert.deepEqual(Object.keys((await import(whole)) as object).sort(), names);
    const page = { Event, EventTarget, URL, console };
    runInNewContext(read("dist/tidegate.classic.js"), page);
    assert.deepEqual(Object.keys((page as { Tidegate?: object }).Tidegate ?? {}).sort(), names);
  });

  it("need no eval and no inline code, so that a strict Content-Security-Policy may stand", () => {
    for (const file of ["tidegate.js", "tidegate.classic.js"]) {
      assert.doesNotMatch(read(`dist/${file}`), /\beval\(|new Function\b|document\.write|innerHTML|createElement/, file);
    }
  });

  it("have source maps with the sources in them", () => {
    for (const file of ["tidegate.js", "tidegate.classic.js"]) {
      const map = JSON.parse(read(`dist/${file}.map`)) as { sources: string[]; sourcesContent: string[] };
      assert.match(read(`dist/${file}`), new RegExp(`//# sourceMappingURL=${file}\\.map\\s*$`));
      const at = map.sources.findIndex((source) => source.endsWith("src/machine.ts"));
      assert.equal(map.sourcesContent[at], read("src/machine.ts"));
    }
  });
});
