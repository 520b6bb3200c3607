/** The machine, in sentences: connecting, counting, coming back, ending. Moves are in `moves.test.ts`. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Bench, WELCOME } from "./bench.js";

const RESUMED = { ...WELCOME, resumed: true, token: "t-2" } as const;

/** An open bench that lost its line and says hello again, on connection 2. */
function back(bench: Bench): Bench {
  bench.closed(1, 1006).wake().feed({ type: "opened", conn: 2 });
  return bench;
}

describe("the first connect", () => {
  it("dials the application's URL and says a hello without a token", () => {
    const bench = new Bench();
    assert.deepEqual(bench.effects, [{ do: "dial", conn: 1, to: null, freshJwt: true }]);
    assert.deepEqual(bench.feed({ type: "opened", conn: 1 }).hello(), { type: "hello" });
    assert.equal(bench.ready, 0);
  });

  it("is open at welcome", () => {
    const bench = Bench.open();
    assert.deepEqual(bench.told(), [{ type: "open" }]);
    assert.equal(bench.ready, 1);
  });

  it("that never opens fails at once, as a browser's own does", () => {
    const bench = new Bench().closed(1, 1006);
    assert.deepEqual(bench.told(), [{ type: "close", code: 1006, reason: "", wasClean: false, failed: true }]);
    assert.equal(bench.state.name, "closed");
  });

  it("that a hub ends with a word comes again, never sooner than the floor", () => {
    const bench = new Bench().feed({ type: "opened", conn: 1 }).closed(1, 1013, "full");
    assert.equal(bench.ready, 0);
    bench.now += 99;
    assert.deepEqual(bench.feed({ type: "tick" }).effects, []);
    bench.now += 1;
    assert.equal(bench.feed({ type: "tick" }).did("dial").length, 1);
  });

  it("fails when its time is over, however often it tried", () => {
    const bench = new Bench();
    bench.random = 0.5;
    for (let tries = 0; bench.state.name !== "closed"; tries += 1) {
      assert.ok(tries < 1000, "it never ends");
      if (bench.state.name !== "connecting") bench.wake();
      else bench.feed({ type: "opened", conn: bench.asking }).closed(bench.asking, 1012);
    }
    assert.equal(bench.now, 1_000 + 20_000);
    assert.deepEqual(bench.told(), [
      { type: "close", code: 1006, reason: "no session within 20000 ms", wasClean: false, failed: true },
    ]);
  });

  it("fails when its time is over while a hub keeps silent", () => {
    const bench = new Bench().feed({ type: "opened", conn: 1 });
    bench.pass(20_000);
    assert.equal(bench.state.name, "closed");
  });

  it("fails at once on a code that says nobody should come back", () => {
    const bench = new Bench().feed({ type: "opened", conn: 1 }).closed(1, 4521, "bad signature");
    assert.deepEqual(bench.told(), [
      { type: "close", code: 4521, reason: "bad signature", wasClean: true, failed: true },
    ]);
  });

  it("asks once for another JWT when the first was not asked for just now", () => {
    const bench = new Bench({ renewable: true }).feed({ type: "opened", conn: 1 }).closed(1, 1012).wake();
    assert.equal(bench.did("dial")[0]?.freshJwt, false);
    bench.feed({ type: "opened", conn: 2 }).closed(2, 4522).wake();
    assert.equal(bench.did("dial")[0]?.freshJwt, true);
    bench.feed({ type: "opened", conn: 3 }).closed(3, 4522);
    assert.equal(bench.state.name, "closed");
  });

  it("waits as long as retry says, with little jitter on top", () => {
    const bench = new Bench().feed({ type: "opened", conn: 1 });
    bench.random = 0.999;
    bench.frame(1, { type: "retry", after_ms: 2_000, why: "full" });
    assert.deepEqual(bench.did("drop"), [{ do: "drop", conn: 1 }]);
    assert.deepEqual(bench.pass(2_000), []);
    assert.equal(bench.pass(500).filter((effect) => effect.do === "dial").length, 1);
  });

  it("refuses an app message before welcome", () => {
    const bench = new Bench().feed({ type: "opened", conn: 1 }).message(1, "early");
    assert.equal(bench.did("drop")[0]?.code, 4500);
    assert.equal(bench.state.name, "closed");
  });

  it("refuses a welcome that says resumed, or that has messages already", () => {
    for (const wrong of [{ resumed: true }, { received: 1 }]) {
      const bench = Bench.open({}, wrong);
      assert.equal(bench.did("drop")[0]?.code, 4500, JSON.stringify(wrong));
    }
  });
});

describe("counting", () => {
  it("delivers each message once and acks after 32 of them", () => {
    const bench = Bench.open();
    for (let n = 1; n <= 31; n += 1) {
      bench.message(1, `m${n}`);
      assert.deepEqual(bench.delivered(), [`m${n}`]);
      assert.deepEqual(bench.did("say"), []);
    }
    bench.message(1, "m32");
    assert.deepEqual(bench.did("say"), [{ do: "say", conn: 1, frame: { type: "ack", received: 32 } }]);
  });

  it("acks 250 ms after the first message that is not acked, and then not again", () => {
    const bench = Bench.open();
    bench.message(1, "a");
    bench.now += 200;
    bench.message(1, "b");
    assert.deepEqual(bench.pass(49), []);
    assert.deepEqual(bench.pass(1), [{ do: "say", conn: 1, frame: { type: "ack", received: 2 } }]);
    assert.deepEqual(bench.pass(1_000), []);
  });

  it("acks with the next message when the timer of a hidden tab is late", () => {
    const bench = Bench.open().message(1, "a");
    bench.now += 60_000;
    bench.message(1, "b");
    assert.deepEqual(bench.did("say")[0]?.frame, { type: "ack", received: 2 });
  });

  it("takes acked messages off the outbox once, and refuses an ack of what was never sent", () => {
    const bench = Bench.open().send("a", "b", "c");
    assert.deepEqual(bench.frame(1, { type: "ack", received: 2 }).effects, [{ do: "release", count: 2 }]);
    assert.deepEqual(bench.frame(1, { type: "ack", received: 2 }).effects, []);
    assert.deepEqual(bench.frame(1, { type: "ack", received: 1 }).effects, []);
    bench.frame(1, { type: "ack", received: 4 });
    assert.deepEqual(bench.did("drop")[0], {
      do: "drop",
      conn: 1,
      code: 4500,
      reason: "ack of 4, but only 3 messages were sent",
    });
    assert.deepEqual(bench.toldTypes(), ["close"]);
  });

  it("steps over a gap and tells the application what is lost", () => {
    const bench = Bench.open().message(1, "a");
    bench.frame(1, { type: "gap", from: 1, to: 5, why: "ring_too_short" });
    assert.deepEqual(bench.told(), [{ type: "gap", from: 1, to: 5, why: "ring_too_short" }]);
    assert.deepEqual(bench.message(1, "six").delivered(), ["six"]);
    assert.equal(bench.session.received, 6);
  });

  it("says nothing of a gap in what it has already", () => {
    const bench = Bench.open().message(1, "a").message(1, "b");
    back(bench).frame(2, { ...RESUMED, from: 0 });
    bench.frame(2, { type: "gap", from: 0, to: 2, why: "ring_too_short" });
    assert.deepEqual(bench.told(), []);
    assert.deepEqual(bench.message(2, "c").delivered(), ["c"]);
  });

  it("tells of a gap that counts nothing: something may be missing", () => {
    const bench = Bench.open().message(1, "a");
    bench.frame(1, { type: "gap", from: 1, to: 1, why: "fan_ring_short" });
    assert.deepEqual(bench.told(), [{ type: "gap", from: 1, to: 1, why: "fan_ring_short" }]);
    assert.deepEqual(bench.message(1, "b").delivered(), ["b"]);
  });

  it("refuses a gap that does not begin at the position, or leads back", () => {
    for (const [from, to] of [[0, 1], [1, 3], [3, 4], [2, 1]] as const) {
      const bench = Bench.open().message(1, "a").message(1, "b");
      bench.frame(1, { type: "gap", from, to, why: "?" });
      assert.equal(bench.did("drop")[0]?.code, 4500, `${from} to ${to}`);
    }
  });
});

describe("a lost connection", () => {
  it("is told, and followed by a hello with token, try, old and received", () => {
    const bench = Bench.open().message(1, "a").closed(1, 1012, "parked");
    assert.deepEqual(bench.told(), [{ type: "reconnecting", code: 1012, reason: "parked", afterMs: 100 }]);
    assert.equal(bench.ready, 1);
    bench.wake().feed({ type: "opened", conn: 2 });
    assert.deepEqual(bench.hello(), { type: "hello", token: "t-1", try: 2, old: "lost", received: 1, epoch: 1 });
  });

  it("raises try with each hello, also after a resume", () => {
    const bench = back(Bench.open());
    bench.closed(2, 1006).wake().feed({ type: "opened", conn: 3 });
    assert.equal(bench.hello().try, 3);
    bench.frame(3, RESUMED).closed(3, 1006).wake().feed({ type: "opened", conn: 4 });
    assert.deepEqual([bench.hello().try, bench.hello().token], [4, "t-2"]);
  });

  it("replays what the hub did not receive and drops what came before", () => {
    const bench = Bench.open().message(1, "h1").message(1, "h2").send("c1", "c2");
    bench.closed(1, 1006).send("c3").wake().feed({ type: "opened", conn: 2 });
    bench.frame(2, { ...RESUMED, from: 1, received: 1 });
    assert.deepEqual(bench.did("replay"), [{ do: "replay", conn: 2, skip: 1 }]);
    assert.deepEqual(bench.toldTypes(), ["resumed"]);
    assert.deepEqual(bench.message(2, "h2").delivered(), []);
    assert.deepEqual(bench.message(2, "h3").delivered(), ["h3"]);
    assert.deepEqual(bench.send("c4").did("transmit"), [{ do: "transmit", conn: 2, payload: "c4" }]);
  });

  it("keeps what the hub has counted until an ack, and does not resend it", () => {
    const bench = back(Bench.open().send("c1", "c2", "c3")).frame(2, { ...RESUMED, received: 2 });
    assert.deepEqual(bench.did("release"), []);
    assert.deepEqual(bench.did("replay"), [{ do: "replay", conn: 2, skip: 2 }]);
    assert.deepEqual(bench.frame(2, { type: "ack", received: 1 }).effects, [{ do: "release", count: 1 }]);
    assert.deepEqual(bench.frame(2, { type: "ack", received: 3 }).effects, [{ do: "release", count: 2 }]);
  });

  it("keeps and does not resend what the hub has counted all of", () => {
    const bench = back(Bench.open().send("c1", "c2")).frame(2, { ...RESUMED, received: 2 });
    assert.deepEqual([bench.did("release"), bench.did("replay"), bench.did("transmit")], [[], [], []]);
    assert.deepEqual([bench.session.acked, bench.session.sent], [0, 2]);
    assert.deepEqual(bench.frame(2, { type: "ack", received: 2 }).effects, [{ do: "release", count: 2 }]);
  });

  it("counts from the last ack when it comes back a second time", () => {
    const bench = back(Bench.open().send("c1", "c2", "c3")).frame(2, { ...RESUMED, received: 2 });
    bench.frame(2, { type: "ack", received: 1 }).send("c4").closed(2, 1006).send("c5").wake();
    bench.feed({ type: "opened", conn: 3 }).frame(3, { ...RESUMED, received: 3 });
    assert.deepEqual(bench.did("release"), []);
    assert.deepEqual(bench.did("replay"), [{ do: "replay", conn: 3, skip: 2 }]);
    assert.deepEqual(bench.frame(3, { type: "ack", received: 5 }).effects, [{ do: "release", count: 4 }]);
  });

  it("acks again what the hub cannot know to be delivered", () => {
    const bench = Bench.open().message(1, "h1").message(1, "h2");
    back(bench).frame(2, { ...RESUMED, from: 1 });
    assert.deepEqual(bench.pass(250), [{ do: "say", conn: 2, frame: { type: "ack", received: 2 } }]);
  });

  it("refuses a welcome that does not fit what it knows", () => {
    const wrong = [
      { from: 2 },
      { received: 3 },
      { received: 0 },
      { epoch: 2 },
      { session: "s-9" },
    ];
    for (const more of wrong) {
      const bench = Bench.open().message(1, "h1").send("c1", "c2").frame(1, { type: "ack", received: 1 });
      back(bench).frame(2, { ...RESUMED, received: 1, ...more });
      assert.equal(bench.state.name, "closed", JSON.stringify(more));
      assert.equal(bench.did("drop")[0]?.code, 4500, JSON.stringify(more));
    }
  });

  it("is silence after two questions, each a heartbeat apart", () => {
    const bench = Bench.open();
    const ping = { do: "say", conn: 1, frame: { type: "ping" } };
    assert.deepEqual(bench.pass(10_000), [ping]);
    assert.deepEqual(bench.pass(10_000), [ping]);
    const effects = bench.pass(10_000);
    assert.deepEqual(effects[0], {
      do: "drop",
      conn: 1,
      code: 4000,
      reason: "nothing heard for three heartbeats",
    });
    assert.equal(bench.state.name, "waiting");
  });

  it("is not silence as long as anything comes", () => {
    const bench = Bench.open();
    for (let n = 0; n < 10; n += 1) {
      bench.pass(9_999);
      bench.frame(1, { type: "pong" });
    }
    assert.equal(bench.state.name, "open");
  });

  it("is not assumed after a long sleep before the hub was asked", () => {
    const bench = Bench.open();
    bench.now += 3_600_000;
    bench.feed({ type: "tick" });
    assert.deepEqual(bench.did("say")[0]?.frame, { type: "ping" });
    assert.equal(bench.state.name, "open");
  });

  it("is looked for at once when the network is back", () => {
    const bench = Bench.open().feed({ type: "online" });
    assert.deepEqual(bench.did("say")[0]?.frame, { type: "ping" });
    bench.pass(5_000);
    assert.equal(bench.state.name, "waiting");
  });

  it("is tried again right after the floor when the network is back", () => {
    const bench = Bench.open();
    bench.random = 0.9;
    bench.closed(1, 1006);
    bench.random = 0;
    bench.feed({ type: "online" });
    assert.equal(bench.pass(100).filter((effect) => effect.do === "dial").length, 1);
  });

  it("keeps its count of failures until a connection was good for 5 s", () => {
    const bench = Bench.open();
    bench.random = 1 - 1e-9;
    const waits: number[] = [];
    for (let n = 0; n < 3; n += 1) {
      bench.closed(n + 1, 1006);
      const [told] = bench.told();
      assert.ok(told?.type === "reconnecting");
      waits.push(told.afterMs);
      bench.wake().feed({ type: "opened", conn: n + 2 }).frame(n + 2, { ...RESUMED, received: 0 });
    }
    assert.deepEqual(waits, [2_000, 4_000, 8_000]);
    bench.now += 5_000;
    bench.closed(4, 1006);
    const [told] = bench.told();
    assert.ok(told?.type === "reconnecting");
    assert.equal(told.afterMs, 1_000);
  });

  it("ends the socket on a final code", () => {
    for (const code of [1000, 1009, 4500, 4512, 4513, 4530]) {
      const bench = Bench.open().closed(1, code, "why");
      assert.deepEqual(bench.told(), [{ type: "close", code, reason: "why", wasClean: true, failed: false }]);
    }
  });

  it("asks for a new JWT on 4522 where there is someone to ask, and ends where there is none", () => {
    assert.equal(Bench.open().closed(1, 4522).state.name, "closed");
    const bench = Bench.open({ renewable: true }).closed(1, 4522).wake();
    assert.equal(bench.did("dial")[0]?.freshJwt, true);
  });

  it("gives an attempt up that gets no answer", () => {
    const bench = back(Bench.open());
    const effects = bench.pass(15_000);
    assert.deepEqual(effects[0], { do: "drop", conn: 2 });
    assert.equal(bench.state.name, "waiting");
  });

  it("hears nothing more from connections that are dropped", () => {
    const bench = back(Bench.open()).frame(2, RESUMED);
    const before = bench.state;
    bench.message(1, "ghost").frame(1, { type: "bye", code: 1000, reason: "" }).closed(1, 4513);
    assert.deepEqual(bench.effects, []);
    assert.equal(bench.state, before);
  });
});

describe("continuity", () => {
  it("that is lost is told when the new session is ready, with the old one named", () => {
    const bench = back(Bench.open().send("a"));
    bench.frame(2, { type: "reset", why: "owner_lost", replaces: "s-1" });
    assert.deepEqual(bench.effects, []);
    bench.frame(2, { ...WELCOME, session: "s-2", epoch: 2 });
    assert.deepEqual(bench.told(), [{ type: "reset", session: "s-2", replaces: "s-1", why: "owner_lost" }]);
    assert.deepEqual(bench.did("replay"), []);
    assert.equal(bench.session.queued, 0);
  });

  it("is not lost by a reset whose welcome never comes", () => {
    const bench = back(Bench.open());
    bench.frame(2, { type: "reset", why: "unknown", replaces: "s-1" }).closed(2, 1006);
    bench.wake().feed({ type: "opened", conn: 3 });
    assert.equal(bench.hello().token, "t-1");
  });

  it("is lost without a reset when the welcome is not a resumption", () => {
    const bench = back(Bench.open()).frame(2, { ...WELCOME, session: "s-2" });
    assert.deepEqual(bench.told(), [{ type: "reset", session: "s-2", replaces: "s-1", why: "unknown" }]);
  });

  it("is lost with a token that no hub takes: a new session is asked for", () => {
    for (const [code, why] of [[4510, "bad_token"], [4511, "token_expired"]] as const) {
      const bench = back(Bench.open()).closed(2, code).wake().feed({ type: "opened", conn: 3 });
      assert.equal(bench.hello().token, undefined);
      assert.equal(bench.ready, 1);
      bench.frame(3, { ...WELCOME, session: "s-2" });
      assert.deepEqual(bench.told(), [{ type: "reset", session: "s-2", replaces: "s-1", why }]);
    }
  });

  it("that nobody takes care of ends the new session too", () => {
    const bench = back(Bench.open()).frame(2, { ...WELCOME, session: "s-2" });
    bench.feed({ type: "forsake", why: "unknown" });
    assert.deepEqual(bench.did("say")[0]?.frame, { type: "bye", code: 4400, reason: "unknown" });
    assert.deepEqual(bench.told(), [{ type: "close", code: 4400, reason: "unknown", wasClean: true, failed: false }]);
  });

  it("never lowers try", () => {
    const bench = back(Bench.open()).frame(2, { ...WELCOME, session: "s-2" });
    bench.closed(2, 1006).wake().feed({ type: "opened", conn: 3 });
    assert.equal(bench.hello().try, 3);
  });

  it("cannot be lost by a client that gave no token", () => {
    const bench = new Bench().feed({ type: "opened", conn: 1 });
    bench.frame(1, { type: "reset", why: "unknown", replaces: "s-0" });
    assert.equal(bench.did("drop")[0]?.code, 4500);
  });
});

describe("close()", () => {
  it("says bye, parts with 1000 and ends at the hub's answer", () => {
    const bench = Bench.open().close(4001);
    assert.deepEqual(bench.effects, [
      { do: "say", conn: 1, frame: { type: "bye", code: 4001 } },
      { do: "part", conn: 1 },
    ]);
    assert.equal(bench.ready, 2);
    bench.closed(1, 1000);
    assert.deepEqual(bench.told(), [{ type: "close", code: 4001, reason: "", wasClean: true, failed: false }]);
  });

  it("delivers nothing any more", () => {
    const bench = Bench.open().close();
    assert.deepEqual(bench.message(1, "late").delivered(), []);
  });

  it("ends after 5 s without an answer", () => {
    const bench = Bench.open().close();
    bench.pass(5_000);
    const [told] = bench.told();
    assert.ok(told?.type === "close");
    assert.deepEqual([told.code, told.wasClean], [1006, false]);
  });

  it("waits for Blobs before it says bye", () => {
    const bench = Bench.open().feed({ type: "close", bye: {}, flushed: false });
    assert.deepEqual(bench.effects, []);
    assert.deepEqual(bench.send("the Blob").did("transmit").length, 1);
    assert.deepEqual(bench.feed({ type: "flushed" }).did("say")[0]?.frame, { type: "bye" });
  });

  it("comes back soon to say bye when there is no connection", () => {
    const bench = Bench.open();
    bench.random = 0.9;
    bench.send("a").closed(1, 1006);
    bench.random = 0;
    bench.close(1000);
    assert.equal(bench.pass(100).filter((effect) => effect.do === "dial").length, 1);
    bench.feed({ type: "opened", conn: 2 }).frame(2, RESUMED);
    assert.deepEqual(
      bench.effects.map((effect) => effect.do),
      ["replay", "say", "part"],
    );
    bench.closed(2, 1000);
    assert.equal(bench.state.name, "closed");
  });

  it("comes back when the hub was moving the session away and did not read the bye", () => {
    const bench = Bench.open().close(1000).closed(1, 1012, "moved");
    assert.equal(bench.state.name, "closing");
    bench.wake().feed({ type: "opened", conn: 2 }).frame(2, RESUMED);
    assert.deepEqual(bench.did("say")[0]?.frame, { type: "bye", code: 1000 });
  });

  it("before the first welcome fails the connection", () => {
    const bench = new Bench().close();
    assert.deepEqual(bench.did("drop"), [{ do: "drop", conn: 1, code: 1000 }]);
    const [told] = bench.told();
    assert.ok(told?.type === "close");
    assert.deepEqual([told.code, told.failed], [1006, true]);
  });

  it("a second time changes nothing", () => {
    const bench = Bench.open().close(1000);
    assert.deepEqual(bench.close(4000).effects, []);
    bench.closed(1, 1000);
    assert.deepEqual(bench.close(4000).effects, []);
  });
});

describe("the hub's bye", () => {
  it("ends the socket with the app's code and reason, whatever the table says of that code", () => {
    const bench = Bench.open().frame(1, { type: "bye", code: 1012, reason: "the app's own" });
    assert.deepEqual(bench.told(), [
      { type: "close", code: 1012, reason: "the app's own", wasClean: true, failed: false },
    ]);
    assert.deepEqual(bench.did("drop"), [{ do: "drop", conn: 1, code: 1000 }]);
  });

  it("ends it before the welcome too", () => {
    const bench = new Bench().feed({ type: "opened", conn: 1 }).frame(1, { type: "bye", code: 4001, reason: "no" });
    assert.deepEqual(bench.toldTypes(), ["close"]);
  });
});
