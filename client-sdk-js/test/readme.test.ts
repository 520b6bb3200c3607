/** The examples of the README, run as they stand there. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, it } from "node:test";
import WebSocket from "ws";
import { TidegateSocket } from "../src/index.js";
import { Hub, type Visit, once, welcomeFrame, within } from "./hub.js";

const README = readFileSync(new URL("../../README.md", import.meta.url), "utf8");

/** The code block of the README that has this in it. */
function example(has: string): string {
  const blocks = [...README.matchAll(/\x60{3}js\n([^\x60]*)\x60{3}/g)].map(([, code]) => code ?? "");
  const found = blocks.filter((code) => code.includes(has));
  assert.equal(found.length, 1, `one example has ${has}`);
  return found[0] as string;
}

/** Runs a code block with these names. */
function run(code: string, names: Readonly<Record<string, unknown>>): void {
  new Function(...Object.keys(names), code)(...Object.values(names));
}

const environment = {
  random: () => 0,
  setTimeout: (callback: () => void, ms: number) => setTimeout(callback, ms).unref(),
};
const NOTICE = {
  type: "notice",
  drain: "d-1",
  seq: 1,
  reason: "deployment",
  text: "Service pausing.",
  language: "en",
  deadline_ms: 300_000,
  slot_ms: 20_000,
};
const MOVE = { type: "move", drain: "d-1", seq: 2, token: "t-move" };
const RESUMED = welcomeFrame({ token: "t-2", generation: 2, resumed: true });
const ANEW = { ...RESUMED, session: "s-2", resumed: false, hub: "hub-b" };

let hub: Hub;
let socket: TidegateSocket;
let first: Visit;

beforeEach(async () => {
  hub = await Hub.start();
  socket = new TidegateSocket(hub.url, [], { WebSocket, environment });
  const opened = once(socket, "open");
  first = await hub.visit();
  await first.welcome();
  await opened;
});

afterEach(async () => {
  socket.close();
  await hub.stop();
});

/** The next connection, when its hello is said. */
async function next(): Promise<Visit> {
  const visit = await hub.visit();
  await visit.frame("hello");
  return visit;
}

/** Every way in which a move, or the wait for one, can end. */
const ENDS: Readonly<Record<string, () => Promise<void>>> = {
  "at another hub": async () => {
    first.say(MOVE);
    (await next()).say({ ...RESUMED, hub: "hub-b" });
  },
  "back at the same hub": async () => {
    first.say(MOVE);
    (await next()).say(RESUMED);
  },
  "by a recall": async () => first.say({ type: "recall", drain: "d-1", seq: 2 }),
  "by a recall while the hello is under way": async () => {
    first.say(MOVE);
    await next();
    first.say({ type: "recall", drain: "d-1", seq: 3 });
  },
  "after the connection was lost": async () => {
    first.cut();
    (await next()).say(RESUMED);
  },
  "after the connection was lost while the hello was under way": async () => {
    first.say(MOVE);
    const second = await next();
    first.cut();
    await once(socket, "reconnecting");
    second.say({ ...RESUMED, hub: "hub-b" });
  },
  "parked, and taken up by the next process": async () => {
    first.close(1012, "parked; after_ms=1");
    (await next()).say(RESUMED);
  },
  "by a reset": async () => {
    first.cut();
    const second = await next();
    second.say({ type: "reset", why: "owner_lost", replaces: "s-1" });
    second.say(ANEW);
  },
  "by a reset that the page takes care of": async () => {
    socket.addEventListener("reset", (event) => event.preventDefault());
    first.say(MOVE);
    const second = await next();
    second.say({ type: "reset", why: "owner_lost", replaces: "s-1" });
    second.say(ANEW);
  },
  "by the app's goodbye": async () => first.say({ type: "bye", code: 4001, reason: "over" }),
  "by a final code": async () => first.close(4530, "evicted"),
  "by the page's own close()": async () => socket.close(),
  "by a hub that breaks the protocol": async () => first.say({ type: "dance" }),
};

describe("the banner of the README", () => {
  for (const [how, ends] of Object.entries(ENDS)) {
    it(`is hidden when it ends ${how}`, async () => {
      let shown: unknown[] | null = null;
      let hidden: () => void = () => {};
      const gone = new Promise<void>((resolve) => (hidden = resolve));
      const banner = {
        show: (...what: unknown[]) => (shown = what),
        hide: () => {
          if (shown !== null) hidden();
          shown = null;
        },
      };
      run(example("banner.show"), { socket, banner });
      first.say(NOTICE);
      await once(socket, "notice");
      assert.deepEqual(shown, ["Service pausing.", 20_000]);
      await ends();
      await within("the banner is hidden", gone);
    });
  }
});

describe("the answer of the README to a reset", () => {
  it("sends nothing that the app has taken already", async () => {
    const [taken, lost] = ['{"id":1}', '{"id":2}'];
    const resync = async () => new Set([1]);
    run(example("detail.unsent"), { socket, resync });
    socket.send(taken);
    socket.send(lost);
    await first.text();
    await first.text();
    first.cut();
    const second = await next();
    second.say({ type: "reset", why: "owner_lost", replaces: "s-1" });
    second.say(ANEW);
    assert.equal(await second.text(), lost);
  });
});
