/** The machine in a drain, in sentences: notices, answers, moves, and what goes wrong in the middle. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { NoticeFrame } from "../src/frames.js";
import { Bench, HOME, WELCOME } from "./bench.js";

const NOTICE: NoticeFrame = {
  type: "notice",
  drain: "d-1",
  seq: 1,
  reason: "deployment",
  text: "Service pausing, please wrap up.",
  language: "en",
  deadline_ms: 300_000,
  slot_ms: 20_000,
};
const MOVE = { type: "move", drain: "d-1", seq: 2, token: "t-move" } as const;
const RECALL = { type: "recall", drain: "d-1", seq: 3 } as const;
const MOVED = { ...WELCOME, resumed: true, token: "t-2", generation: 2, hub: "hub-b" } as const;

/** A move whose second connection, number 2, has said hello. */
function asked(): Bench {
  return Bench.open().frame(1, NOTICE).frame(1, MOVE).feed({ type: "opened", conn: 2 });
}

describe("a notice", () => {
  it("is told once, however often it comes", () => {
    const bench = Bench.open().frame(1, NOTICE);
    assert.deepEqual(bench.toldTypes(), ["notice"]);
    assert.deepEqual(bench.frame(1, NOTICE).effects, []);
    assert.deepEqual(bench.frame(1, { ...NOTICE, seq: 2, slot_ms: 26_000 }).toldTypes(), ["notice"]);
    assert.deepEqual(bench.frame(1, NOTICE).effects, []);
  });

  it("of another drain is news, whatever its seq", () => {
    const bench = Bench.open().frame(1, { ...NOTICE, seq: 9 });
    assert.deepEqual(bench.frame(1, { ...NOTICE, drain: "d-2" }).toldTypes(), ["notice"]);
  });

  it("can be answered by busy and ready, and nothing else can", () => {
    const bench = Bench.open();
    assert.deepEqual(bench.feed({ type: "ready", drain: null }).effects, []);
    bench.frame(1, NOTICE);
    bench.feed({ type: "busy", drain: null, ms: 5_000, why: "typing" });
    assert.deepEqual(bench.did("say")[0]?.frame, { type: "busy", drain: "d-1", ms: 5_000, why: "typing" });
    assert.deepEqual(bench.feed({ type: "ready", drain: "d-0" }).effects, []);
    assert.deepEqual(bench.feed({ type: "ready", drain: "d-1" }).did("say")[0]?.frame, { type: "ready", drain: "d-1" });
    bench.frame(1, RECALL);
    assert.deepEqual(bench.feed({ type: "ready", drain: null }).effects, []);
  });

  it("that comes again after a resume is not told again, but can be answered", () => {
    const bench = Bench.open().frame(1, NOTICE).closed(1, 1006).wake();
    bench.feed({ type: "opened", conn: 2 }).frame(2, { ...MOVED, generation: 1 });
    assert.deepEqual(bench.frame(2, NOTICE).effects, []);
    assert.equal(bench.feed({ type: "ready", drain: null }).did("say").length, 1);
  });
});

describe("a move", () => {
  it("is acted on in the same step, without any timer", () => {
    const bench = Bench.open().frame(1, MOVE);
    assert.deepEqual(bench.effects, [{ do: "dial", conn: 2, to: null, freshJwt: false }]);
    bench.feed({ type: "opened", conn: 2 });
    assert.deepEqual(bench.hello(), {
      type: "hello",
      token: "t-move",
      try: 2,
      old: "open",
      received: 0,
      epoch: 1,
    });
  });

  it("leaves the old connection at full work until welcome", () => {
    const bench = asked();
    assert.deepEqual(bench.message(1, "h1").delivered(), ["h1"]);
    assert.deepEqual(bench.send("c1").did("transmit")[0]?.conn, 1);
    assert.deepEqual(bench.frame(1, { type: "ping" }).did("say")[0], { do: "say", conn: 1, frame: { type: "pong" } });
  });

  it("goes deaf on the old connection at welcome, closes it with 1000 and resends what is missing", () => {
    const bench = asked().send("c1", "c2").message(1, "h1").frame(2, { ...MOVED, from: 0, received: 1 });
    assert.deepEqual(bench.effects, [
      { do: "drop", conn: 1, code: 1000 },
      { do: "replay", conn: 2, skip: 1 },
      { do: "tell", event: { type: "moved", session: "s-1", hub: "hub-b" } },
    ]);
    assert.deepEqual(bench.message(1, "h2").effects, []);
    assert.deepEqual(bench.message(2, "h1").delivered(), []);
    assert.deepEqual(bench.message(2, "h2").delivered(), ["h2"]);
  });

  it("that came before is ignored", () => {
    const bench = Bench.open().frame(1, { ...NOTICE, seq: 5 });
    assert.deepEqual(bench.frame(1, MOVE).effects, []);
  });

  it("goes to the URL that it names, with the session's path and query where it has none", () => {
    const bench = Bench.open().frame(1, { ...MOVE, url: "wss://chat.example.com:8443" });
    assert.equal(bench.dialled()[0], "wss://chat.example.com:8443/connect?room=7");
    const whole = Bench.open().frame(1, { ...MOVE, url: "wss://chat.example.com:8443/other" });
    assert.equal(whole.dialled()[0], "wss://chat.example.com:8443/other");
  });

  it("does not lead from wss to ws, nor to a foreign host, nor to nonsense", () => {
    for (const url of ["ws://chat.example.com/", "wss://evil.example.net/", "::"]) {
      assert.equal(Bench.open().frame(1, { ...MOVE, url }).dialled()[0], HOME, url);
    }
    const allowed = Bench.open({ allowHosts: ["hub-b.example.net"] });
    allowed.frame(1, { ...MOVE, url: "wss://hub-b.example.net/x" });
    assert.equal(allowed.dialled()[0], "wss://hub-b.example.net/x");
    const any = Bench.open({ allowHosts: "any" }).frame(1, { ...MOVE, url: "ws://evil.example.net/" });
    assert.equal(any.dialled()[0], HOME);
  });

  it("repeated with a newer token is told by the hello that is still to come", () => {
    const bench = Bench.open().frame(1, MOVE).frame(1, { ...MOVE, seq: 3, token: "t-newer" });
    assert.deepEqual(bench.effects, []);
    bench.feed({ type: "opened", conn: 2 });
    assert.equal(bench.hello().token, "t-newer");
  });

  it("to another URL before hello dials again", () => {
    const bench = Bench.open().frame(1, MOVE);
    bench.frame(1, { ...MOVE, seq: 3, url: "wss://chat.example.com/b" });
    assert.deepEqual(
      bench.effects.map((effect) => effect.do),
      ["drop", "dial"],
    );
  });

  it("waits after retry while the old connection works, and then raises try", () => {
    const bench = asked().frame(2, { type: "retry", after_ms: 400, why: "moving" });
    assert.deepEqual(bench.effects, [{ do: "drop", conn: 2 }]);
    assert.equal(bench.send("c1").did("transmit")[0]?.conn, 1);
    assert.deepEqual(bench.pass(399), []);
    assert.equal(bench.pass(1).length, 1);
    bench.feed({ type: "opened", conn: 3 });
    assert.deepEqual([bench.hello().try, bench.hello().old, bench.hello().token], [3, "open", "t-move"]);
  });

  it("is acted on at once again when it comes anew in that wait", () => {
    const bench = asked().frame(2, { type: "retry", after_ms: 9_000, why: "moving" });
    bench.frame(1, { ...MOVE, seq: 3, token: "t-3" });
    assert.equal(bench.did("dial")[0]?.conn, 3);
  });

  it("tries the application's own URL when the named one does not answer", () => {
    const bench = Bench.open().frame(1, { ...MOVE, url: "wss://chat.example.com/b" }).closed(2, 1006).wake();
    assert.equal(bench.dialled()[0], HOME);
  });

  it("is given up on a final answer, and the old connection stays", () => {
    for (const code of [4500, 4510, 4512, 4521]) {
      const bench = asked().closed(2, code);
      assert.equal(bench.state.name, "open", String(code));
      assert.deepEqual(bench.toldTypes(), []);
    }
  });

  it("is not harmed by a fault on the second connection", () => {
    const bench = asked().feed({ type: "fault", conn: 2, reason: "nonsense" });
    assert.equal(bench.did("drop")[0]?.code, 4500);
    assert.equal(bench.state.name, "open");
    assert.equal(bench.send("c1").did("transmit")[0]?.conn, 1);
  });

  it("gives a second connection up that gets no answer, and tries again", () => {
    const bench = asked();
    for (let n = 0; n < 3; n += 1) {
      bench.pass(5_000);
      bench.frame(1, { type: "pong" });
    }
    assert.equal(bench.state.name, "deferred");
    assert.equal(bench.wake().did("dial").length, 1);
  });

  it("takes a reset on the second connection only with its welcome", () => {
    const bench = asked().frame(2, { type: "reset", why: "unknown", replaces: "s-1" });
    assert.deepEqual(bench.message(1, "h1").delivered(), ["h1"]);
    bench.frame(2, { ...WELCOME, session: "s-2" });
    assert.deepEqual(bench.toldTypes(), ["reset"]);
    assert.deepEqual(bench.did("drop"), [{ do: "drop", conn: 1, code: 1000 }]);
  });
});

describe("the old connection, lost in the middle of a move", () => {
  it("before hello: the hello says lost", () => {
    const bench = Bench.open().frame(1, MOVE).closed(1, 1012, "moved");
    assert.deepEqual(bench.toldTypes(), ["reconnecting"]);
    bench.feed({ type: "opened", conn: 2 });
    assert.equal(bench.hello().old, "lost");
  });

  it("after hello: its answer is awaited, and welcome resumes", () => {
    const bench = asked().closed(1, 1012, "moved").send("c1").frame(2, MOVED);
    assert.deepEqual(bench.toldTypes(), ["resumed"]);
    assert.deepEqual(bench.did("replay"), [{ do: "replay", conn: 2, skip: 0 }]);
  });

  it("after hello: a retry was meant for an open client, so the next hello says lost soon", () => {
    const bench = asked().closed(1, 1006).frame(2, { type: "retry", after_ms: 10_000, why: "moving" });
    assert.equal(bench.pass(100).filter((effect) => effect.do === "dial").length, 1);
    bench.feed({ type: "opened", conn: 3 });
    assert.deepEqual([bench.hello().old, bench.hello().try], ["lost", 3]);
  });

  it("by being displaced by our own hello is not the end", () => {
    const bench = asked().closed(1, 4513).frame(2, MOVED);
    assert.deepEqual(bench.toldTypes(), ["resumed"]);
  });

  it("by being displaced by a hello of ours that was given up is not the end", () => {
    const bench = asked().frame(2, { type: "retry", after_ms: 9_000, why: "moving" }).closed(1, 4513);
    assert.equal(bench.state.name, "waiting");
    assert.equal(asked().closed(2, 4512).closed(1, 4513).state.name, "waiting");
  });

  it("by 1000 while a hello is under way is not the end", () => {
    assert.deepEqual(asked().closed(1, 1000).frame(2, MOVED).toldTypes(), ["resumed"]);
    assert.equal(Bench.open().frame(1, MOVE).closed(1, 1000).state.name, "closed");
  });

  it("by being displaced by somebody else is the end", () => {
    const bench = Bench.open().frame(1, MOVE).closed(1, 4513);
    assert.equal(bench.state.name, "closed");
  });

  it("by an administrator is the end, and the second connection goes too", () => {
    const bench = asked().closed(1, 4530, "evicted");
    assert.deepEqual(bench.did("drop").at(-1), { do: "drop", conn: 2, code: 1000 });
    assert.deepEqual(bench.toldTypes(), ["close"]);
  });

  it("by silence is the same as by a close", () => {
    const bench = Bench.open().frame(1, MOVE);
    bench.pass(14_000);
    bench.feed({ type: "opened", conn: 2 });
    bench.pass(10_000);
    bench.pass(10_000);
    assert.notEqual(bench.state.name, "open");
  });

  it("while it waits after retry: it comes back to where the move led", () => {
    const bench = Bench.open().frame(1, { ...MOVE, url: "wss://chat.example.com/b" });
    bench.feed({ type: "opened", conn: 2 }).frame(2, { type: "retry", after_ms: 5_000, why: "moving" });
    bench.now += 4_990;
    bench.frame(1, { type: "pong" });
    bench.closed(1, 1012).wake();
    assert.equal(bench.dialled()[0], "wss://chat.example.com/b");
    bench.feed({ type: "opened", conn: 3 });
    assert.equal(bench.hello().old, "lost");
  });
});

describe("a recall", () => {
  it("ends the wait for another try", () => {
    const bench = asked().frame(2, { type: "retry", after_ms: 400, why: "moving" }).frame(1, RECALL);
    assert.deepEqual(bench.toldTypes(), ["recalled"]);
    assert.equal(bench.state.name, "open");
  });

  it("drops a second connection that has not said hello", () => {
    const bench = Bench.open().frame(1, MOVE).frame(1, RECALL);
    assert.deepEqual(bench.did("drop"), [{ do: "drop", conn: 2 }]);
    assert.equal(bench.state.name, "open");
  });

  it("leaves a hello under way to its own answer: welcome moves", () => {
    const bench = asked().frame(1, RECALL).frame(2, MOVED);
    assert.deepEqual(bench.toldTypes(), ["moved"]);
  });

  it("leaves a hello under way to its own answer: retry stays", () => {
    const bench = asked().frame(1, RECALL).frame(2, { type: "retry", after_ms: 100, why: "moving" });
    assert.equal(bench.state.name, "open");
    assert.deepEqual(bench.pass(1_000), []);
  });
});

describe("close() in the middle of a move", () => {
  it("before hello gives the move up and says bye on the old connection", () => {
    const bench = Bench.open().frame(1, MOVE).close(1000);
    assert.deepEqual(
      bench.effects.map((effect) => effect.do),
      ["say", "part", "drop"],
    );
  });

  it("after hello says bye on both, if it comes to that", () => {
    const bench = asked().close(1000);
    assert.deepEqual(bench.did("part"), [{ do: "part", conn: 1 }]);
    bench.frame(2, MOVED);
    assert.deepEqual(bench.did("say").at(-1), { do: "say", conn: 2, frame: { type: "bye", code: 1000 } });
    bench.closed(2, 1000);
    assert.deepEqual(bench.toldTypes(), ["close"]);
  });
});
