// Runs all checks and tests, shows what they say, and adds them up. The last line on stdout is
// "N passed, N failed"; the exit code is 0 only if nothing failed and every step could run.

import { execFileSync, spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, "target");

/** A step that takes longer is ended and counts as failed, in milliseconds. */
const STEP_MS = 20 * 60_000;
/** Time for a step to end by itself after SIGTERM, in milliseconds. */
const END_MS = 5_000;
/** How much of a line is looked at for counts; longer ones are nobody's summary. */
const LINE_MAX = 400;

const COLOUR = process.stdout.isTTY && !process.env.NO_COLOR;

/**
 * Test programs that mostly wait, for hubs as processes of their own: more of their tests run side by side than there
 * are processors. All others keep the processors busy, or measure times.
 */
const WAITING = ["balancer", "bulk", "cancel", "deploy", "faults", "killed", "one_hub", "ten_failures", "trigger", "two_hubs"];
const WAITING_SIDE_BY_SIDE = 4;

/**
 * What to run, in this order. `count` reads the runner's own summaries; a step without it is one
 * check, which passes or fails as a whole.
 */
const STEPS = [
  { name: "format", run: ["cargo", "fmt", "--all", "--check"] },
  { name: "clippy", run: ["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"] },
  { name: "licences and sources", run: ["cargo", "deny", "--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"] },
  { name: "SDK: strict TypeScript, tests", run: ["npm", "test", "--silent"], in: "client-sdk-js", count: nodeTest },
  // Programs and tests at once: `build` alone would compile some crates again, with other features.
  { name: "build", run: ["cargo", "test", "--workspace", "--no-run", "--locked"] },
  { name: "Rust tests", run: rustTests(["--lib", "--bins", ...named((name) => !WAITING.includes(name))]), count: cargoTest },
  { name: "Rust tests of documentation", run: rustTests(["--doc"]), count: cargoTest },
  {
    name: "Rust tests that wait",
    run: [...rustTests(named((name) => WAITING.includes(name))), "--", `--test-threads=${WAITING_SIDE_BY_SIDE}`],
    count: cargoTest,
  },
  {
    name: "browser tests",
    run: ["node", "--test", "--test-concurrency=1", ...browserTests()],
    env: { TIDEGATE_BIN_DIR: join(TARGET, "debug") },
    count: nodeTest,
  },
];

function rustTests(which) {
  return ["cargo", "test", "--workspace", "--locked", "--no-fail-fast", ...which];
}

/** All test programs of the workspace that are wanted, as options of `cargo test`. */
function named(isWanted) {
  const metadata = execFileSync("cargo", ["metadata", "--no-deps", "--locked", "--format-version", "1"], { cwd: ROOT, encoding: "utf8" });
  const targets = JSON.parse(metadata).packages.flatMap((its) => its.targets).filter((target) => target.kind.includes("test"));
  const names = new Set(targets.map((target) => target.name));
  for (const name of WAITING) {
    if (!names.has(name)) throw new Error(`WAITING names the test program "${name}", which does not exist`);
  }
  return [...names].filter(isWanted).sort().flatMap((name) => ["--test", name]);
}

function browserTests() {
  const directory = "tests/browser";
  const files = readdirSync(join(ROOT, directory)).filter((name) => name.endsWith(".test.mjs"));
  return files.sort().map((name) => `${directory}/${name}`);
}

/** `cargo test` prints one such line for each test program. */
function cargoTest(line, sum) {
  const found = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;/.exec(line);
  if (found === null) return;
  sum.passed += Number(found[1]);
  sum.failed += Number(found[2]);
  sum.skipped += Number(found[3]);
}

/** `node --test` ends with one line for each outcome. A test that was cancelled has not passed. */
function nodeTest(line, sum) {
  const found = /^(?:#|ℹ) (pass|fail|cancelled|skipped|todo) (\d+)$/.exec(line);
  if (found === null) return;
  const kinds = { pass: "passed", fail: "failed", cancelled: "failed", skipped: "skipped", todo: "skipped" };
  sum[kinds[found[1]]] += Number(found[2]);
}

/** The step under way, so that Ctrl-C ends it with all that it started. */
let current = null;

/** Ends a step and what it started: it runs in a process group of its own. */
function end(child) {
  const signal = (name) => {
    try {
      process.kill(-child.pid, name);
    } catch {
      // The group is gone already.
    }
  };
  signal("SIGTERM");
  setTimeout(() => signal("SIGKILL"), END_MS).unref();
}

/** Runs one step: passes on what it says, and returns its counts. */
function run(step) {
  const sum = { name: step.name, passed: 0, failed: 0, skipped: 0, ms: 0, why: null };
  const started = Date.now();
  const env = { ...process.env, NODE_OPTIONS: "--test-reporter=spec", CARGO_TERM_COLOR: COLOUR ? "always" : "never", ...step.env };
  if (!COLOUR) env.NO_COLOR = "1";
  return new Promise((resolve) => {
    const [program, ...args] = step.run;
    const stdio = ["ignore", "pipe", "pipe"];
    const child = spawn(program, args, { cwd: join(ROOT, step.in ?? "."), env, stdio, detached: true });
    current = child;
    for (const from of ["stdout", "stderr"]) passOn(child[from], process[from], (line) => step.count?.(line, sum));
    const tooLong = setTimeout(() => {
      sum.why = `not done after ${STEP_MS / 60_000} minutes`;
      end(child);
    }, STEP_MS);
    child.once("error", (why) => {
      sum.why = why.message;
    });
    child.once("close", (code, signal) => {
      clearTimeout(tooLong);
      current = null;
      sum.ms = Date.now() - started;
      if (code !== 0) sum.why ??= signal === null ? `exit ${code}` : `ended by ${signal}`;
      resolve(judged(step, sum));
    });
  });
}

/** A check counts as one. A runner that failed without a failed test, or that ran nothing, counts as one failure. */
function judged(step, sum) {
  if (step.count === undefined) {
    sum[sum.why === null ? "passed" : "failed"] += 1;
  } else if (sum.why === null && sum.passed + sum.failed === 0) {
    sum.why = "no test was run";
    sum.failed = 1;
  } else if (sum.why !== null && sum.failed === 0) {
    sum.failed = 1;
  }
  return sum;
}

/** Shows a stream as it comes, and hands out its lines without colours. */
function passOn(from, to, onLine) {
  let rest = "";
  from.setEncoding("utf8");
  from.on("data", (text) => {
    to.write(text);
    const lines = (rest + text).split("\n");
    rest = lines.pop().slice(-LINE_MAX);
    for (const line of lines) onLine(line.replace(/\u001b\[[0-9;]*m/g, "").trimEnd());
  });
  from.on("end", () => onLine(rest));
}

function table(sums) {
  const width = Math.max(...sums.map(({ name }) => name.length));
  const row = ({ name, passed, failed, skipped, ms, why }) => {
    const time = `${(ms / 1000).toFixed(1)} s`.padStart(8);
    const counts = `${String(passed).padStart(5)} passed ${String(failed).padStart(3)} failed`;
    return `  ${name.padEnd(width)} ${time} ${counts}${skipped > 0 ? `, ${skipped} ignored` : ""}${why === null ? "" : `  (${why})`}`;
  };
  return sums.map(row).join("\n");
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.once(signal, () => {
    if (current !== null) end(current);
    setTimeout(() => process.exit(130), current === null ? 0 : END_MS);
    current?.once("close", () => process.exit(130));
  });
}

const sums = [];
for (const step of STEPS) {
  console.log(`\n=== ${step.name}: ${step.run.join(" ")}`);
  sums.push(await run(step));
}
const total = (kind) => sums.reduce((all, sum) => all + sum[kind], 0);
console.log(`\n${table(sums)}\n`);
// Not process.exit(): what was printed must be out first.
process.exitCode = total("failed") === 0 ? 0 : 1;
console.log(`${total("passed")} passed, ${total("failed")} failed`);
