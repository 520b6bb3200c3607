// The demo: 500 live users on hub A, with messages flowing both ways; hub A is drained as a deployment
// would; hub B goes on with all of them. The last line on stdout is the account, as JSON.
//
// `--keep` starts the same and leaves the drain to whoever watches the page.

import { fileURLToPath } from "node:url";
import { join, relative } from "node:path";

import { Fleet } from "./fleet.mjs";
import { pause } from "./program.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const BINARIES = process.env.TIDEGATE_BIN_DIR ?? join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "release");
const SDK = join(ROOT, "client-sdk-js", "dist");

const USERS = 500;
const POLICY = ["--notice", "5s", "--window", "15s", "--settle", "5s", "--deadline", "60s", "--reason", "deployment",
  "--text", "This kitchen is being renewed. Another one takes over in a moment."];
/** The whole demo, in milliseconds; something hangs if it takes longer. */
const DEMO_MS = 110_000;
/** How long the users may take to connect and see messages flow, in milliseconds. */
const JOIN_MS = 40_000;

const keep = process.argv.includes("--keep");
const fleet = new Fleet(BINARIES, SDK);

/** Once the demo ends, for whatever reason, what was under way has nothing more to tell. */
let isOver = false;

function say(text = "") {
  if (!isOver) process.stderr.write(`${text}\n`);
}

/** Resolves when somebody wants the demo to end. */
const interrupted = new Promise((resolve) => {
  let isAgain = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => {
      // The guard ends what is left as soon as this process is gone.
      if (isAgain) process.exit(130);
      isAgain = true;
      resolve({ signal });
    });
  }
});

/** The command line for hub `seat`, as a person can type it. */
function hookLine(seat, command, args = []) {
  const quoted = args.map((arg) => (/[^\w.:/=-]/.test(arg) ? `"${arg}"` : arg));
  return [relative(process.cwd(), fleet.path("tidegate-hook")), command, "--hub", seat.privateUrl, ...quoted].join(" ");
}

/** Starts the users of hub A, and waits until messages flow for each of them. */
async function startUsers(seat, giveUpAfter) {
  let isQuiet = false;
  const users = fleet.run("tidegate-load", [
    "drain", "--hub", `${seat.hubUrl}/ledger`, "--private", seat.privateUrl, "--clients", String(USERS), "--rate", "2",
    "--settle", "2s", "--give-up-after", giveUpAfter,
  ], {
    called: "users",
    onLine: (line) => {
      if (!isQuiet) say(`  users: ${line}`);
    },
  });
  await users.ready(JOIN_MS);
  return { users, silence: () => (isQuiet = true), speak: () => (isQuiet = false) };
}

/** What the users and the hub say of the drain, and whether they say the same. */
function account(verdict, report, hookCode) {
  const line = {
    demo: "failed",
    users: verdict?.users ?? 0,
    moved: verdict?.moved ?? 0,
    forced: verdict?.forced ?? 0,
    lost: verdict?.lost ?? 0,
    duplicated: verdict?.duplicated ?? 0,
    reordered: verdict?.reordered ?? 0,
    gap_ms_p99: verdict?.gap_ms_p99 ?? null,
    drain_ms: report?.took_ms ?? null,
  };
  const wrong = verdict === null || report === null ? ["there is no account of the users, or no report of the hub"] : [
    hookCode !== 0 && `the trigger ended with ${hookCode}, expected 0`,
    report.result !== "drained" && `the hub's report says ${report.result}, expected drained`,
    report.drain === undefined && "the hub's report names no drain",
    verdict.users !== USERS && `${verdict.users} users, expected ${USERS}`,
    verdict.moved !== USERS && `the users saw ${verdict.moved} moved, expected ${USERS}`,
    // Whoever has opened the page is one more.
    report.sessions.moved < USERS && `the hub reports ${report.sessions.moved} moved, expected ${USERS} or more`,
    verdict.lost + report.messages.lost > 0 && `messages lost: the users say ${verdict.lost}, the hub ${report.messages.lost}`,
    verdict.duplicated > 0 && `${verdict.duplicated} messages came twice`,
    verdict.reordered > 0 && `${verdict.reordered} messages came out of order`,
    report.sessions.forced > 0 && `${report.sessions.forced} sessions were forced`,
    verdict.resets + verdict.declared_gaps > 0 && `${verdict.resets} resets and ${verdict.declared_gaps} declared gaps`,
    verdict.unsettled > 0 && `${verdict.unsettled} users could not settle their account`,
    !verdict.agrees && "the users' account and the hub's report differ",
  ].filter(Boolean);
  if (wrong.length === 0) line.demo = "ok";
  return { line, wrong };
}

/** The demo without a person: drains hub A, and tells how it went. */
async function play() {
  const [a] = await fleet.start();
  say(`\nTwo hubs and two kitchens are up. Open the page, and see it move to kitchen B:\n\n    ${a.page}\n`);
  const { users, silence, speak } = await startUsers(a, "100s");
  say(`\n${USERS} users are on hub A, and messages flow both ways. Draining it:\n\n    ${hookLine(a, "drain", POLICY)}\n`);
  silence();
  // The trigger's lines, or its progress bar, go where people look; stdout keeps to the account.
  const hook = fleet.run("tidegate-hook", ["drain", "--hub", a.privateUrl, ...POLICY], { stdio: ["ignore", 2, 2] });
  const hookCode = await hook.ended;
  say("\nThe drain has ended. The users settle their accounts with the kitchens:\n");
  speak();
  await users.ended;
  const verdict = users.json?.users === undefined || users.json.event === "ready" ? null : users.json;
  const { line, wrong } = account(verdict, await a.ask("/v1/drain/report"), hookCode);
  for (const why of wrong) say(`demo: ${why}`);
  return line;
}

/** The demo for a person: everything stays until Ctrl-C. */
async function stay() {
  const [a, b] = await fleet.start();
  const { users } = await startUsers(a, "24h");
  say(`
Two hubs, two kitchens and ${USERS} users are up, and stay until Ctrl-C.

  the page     ${a.page}    (through hub A, ${a.hubUrl})
               ${b.page}    (through hub B, ${b.hubUrl})

  drain hub A  ${hookLine(a, "drain", POLICY)}
  look at it   ${hookLine(a, "status")}
  serve again  ${hookLine(a, "cancel")}

  the same for hub B with --hub ${b.privateUrl}
  metrics      ${a.privateUrl}/metrics    ${b.privateUrl}/metrics
`);
  void users.ended.then(() => {
    if (users.json?.event !== "ready") say(`\nThe users' account of the first drain of hub A:\n\n${JSON.stringify(users.json)}\n`);
  });
  await fallen();
}

/** Fails as soon as a hub or a kitchen ends by itself. */
async function fallen() {
  while (fleet.fallen === undefined) await pause(250);
  throw new Error(`${fleet.fallen.name} ended by itself`);
}

async function tooLong() {
  await pause(DEMO_MS);
  throw new Error(`not done after ${DEMO_MS / 1000} s`);
}

/** Runs to an end of any kind, and leaves nothing behind. */
async function run() {
  // The timers of waiting keep nothing alive, and Node must not leave while only they are waited for.
  const awake = setInterval(() => {}, 60_000);
  let end;
  try {
    const work = keep ? [stay()] : [play(), fallen(), tooLong()];
    end = await Promise.race([...work, interrupted]);
  } catch (why) {
    say(`\ndemo: ${why.message}\n${fleet.said}`);
    end = account(null, null, null).line;
  }
  if (end.signal !== undefined) say(`\n${end.signal}: ending everything; once more ends it by force`);
  isOver = true;
  await fleet.stop().catch((why) => process.stderr.write(`demo: ${why.message}\n`));
  clearInterval(awake);
  return end;
}

const end = await run();
if (end.signal === undefined) process.stdout.write(`${JSON.stringify(end)}\n`);
// A person ends what was kept; that is its proper end.
process.exitCode = end.demo === "ok" || (keep && end.signal !== undefined) ? 0 : end.signal === undefined ? 1 : 130;
