/** `TidegateSocket` over a real WebSocket (the `ws` package), against a hub that plays a script. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import WebSocket from "ws";
import { type ResetDetail, type TidegateEvent, type TidegateOptions, TidegateSocket } from "../src/index.js";
import { Hub, type Visit, once, within, welcomeFrame } from "./hub.js";

let hub: Hub;
let open: TidegateSocket[];

beforeEach(async () => {
  hub = await Hub.start();
  open = [];
});

afterEach(async () => {
  for (const socket of open) socket.close();
  await hub.stop();
});

/** No jitter, and no timer of a socket keeps the process alive when the tests are over. */
const environment = {
  random: () => 0,
  setTimeout: (callback: () => void, ms: number) => setTimeout(callback, ms).unref(),
};

function connect(options: TidegateOptions = {}, protocols: string[] = []): TidegateSocket {
  const socket = new TidegateSocket(hub.url, protocols, { WebSocket, environment, ...options });
  open.push(socket);
  return socket;
}

async function established(options: TidegateOptions = {}): Promise<[TidegateSocket, Visit]> {
  const socket = connect(options);
  const opened = once(socket, "open");
  const visit = await hub.visit();
  await visit.welcome();
  await opened;
  return [socket, visit];
}

function collect(socket: TidegateSocket): unknown[] {
  const got: unknown[] = [];
  socket.onmessage = (event) => got.push(event.data);
  return got;
}

const NOTICE = {
  type: "notice",
  drain: "d-1",
  seq: 1,
  reason: "deployment",
  text: "Service pausing, please wrap up.",
  language: "en",
  deadline_ms: 300_000,
  slot_ms: 20_000,
};

describe("a socket that opens", () => {
  it("says hello with the application's protocols and tells the app's choice", async () => {
    const socket = connect({ language: "de" }, ["chat.v2", "chat.v1"]);
    assert.equal(socket.readyState, TidegateSocket.CONNECTING);
    const opened = once(socket, "open");
    const hello = await (await hub.visit()).welcome({ protocol: "chat.v1" });
    await opened;
    assert.deepEqual(hello, { type: "hello", protocols: ["chat.v2", "chat.v1"], language: "de" });
    assert.equal(socket.protocol, "chat.v1");
    assert.equal(socket.readyState, TidegateSocket.OPEN);
    assert.equal(socket.session, "s-1");
    assert.equal(socket.url, hub.url);
  });

  it("gives the JWT that a token function returns", async () => {
    connect({ token: async () => "jwt-1" });
    const hello = await (await hub.visit()).welcome();
    assert.equal(hello["auth"], "jwt-1");
  });

  it("asks the token function again when the JWT has expired, and comes back with the session", async () => {
    let asked = 0;
    const socket = connect({ token: async () => `jwt-${(asked += 1)}` });
    const first = await hub.visit();
    await first.welcome();
    await once(socket, "open");
    first.close(4522, "exp has passed");
    const hello = await (await hub.visit()).frame("hello");
    assert.equal(hello["auth"], "jwt-2");
    assert.equal(hello["token"], "t-1");
  });

  it("fires error and close as soon as the port refuses it, as a WebSocket does", async () => {
    const events: string[] = [];
    // No timer ever fires but those of no time at all: nothing was waited for.
    const setTimeout = (callback: () => void, ms: number) => (ms === 0 ? setImmediate(callback) : null);
    const socket = new TidegateSocket("ws://127.0.0.1:9/connect", [], { WebSocket, environment: { setTimeout } });
    socket.onerror = () => events.push("error");
    socket.onclose = () => events.push("close");
    const close = await once<CloseEvent>(socket, "close");
    assert.deepEqual(events, ["error", "close"]);
    assert.equal(close.code, 1006);
    assert.equal(close.wasClean, false);
    assert.equal(socket.readyState, TidegateSocket.CLOSED);
  });

  it("fires error and close at once when the hub says that nobody should come back", async () => {
    const socket = connect();
    const closed = once<CloseEvent>(socket, "close");
    const errored = once(socket, "error");
    const visit = await hub.visit();
    await visit.frame("hello");
    visit.close(4520, "hello.auth is missing");
    await errored;
    assert.deepEqual([(await closed).code, (await closed).reason], [4520, "hello.auth is missing"]);
  });

  it("waits as a hub orders by retry", async () => {
    const socket = connect();
    const first = await hub.visit();
    await first.frame("hello");
    first.say({ type: "retry", after_ms: 150, why: "full" });
    const second = await hub.visit();
    const opened = once(socket, "open");
    await second.welcome();
    await opened;
  });

  it("can be closed before it opens", async () => {
    const socket = connect();
    const closed = once<CloseEvent>(socket, "close");
    socket.close();
    assert.equal(socket.readyState, TidegateSocket.CLOSING);
    assert.equal((await closed).code, 1006);
    assert.equal(socket.readyState, TidegateSocket.CLOSED);
  });
});

describe("messages", () => {
  it("pass in both directions byte for byte, a text that begins with U+0001 too", async () => {
    const [socket, visit] = await established();
    const got = collect(socket);
    socket.binaryType = "arraybuffer";
    socket.send("\u0001odd");
    socket.send(new Uint8Array([9, 1, 2, 3]).subarray(1));
    assert.equal(await visit.text(), "\u0001odd");
    assert.deepEqual(await visit.heard.next("bytes"), { bytes: new Uint8Array([1, 2, 3]) });
    const three = new Promise<void>((resolve) => {
      socket.addEventListener("message", () => got.length === 3 && resolve());
    });
    visit.send("plain");
    visit.send("\u0001\u0001odd too");
    visit.send(new Uint8Array([7]));
    await within("three messages", three);
    assert.deepEqual(got.slice(0, 2), ["plain", "\u0001odd too"]);
    assert.deepEqual(new Uint8Array(got[2] as ArrayBuffer), new Uint8Array([7]));
  });

  it("arrive as Blobs unless the application asks for an ArrayBuffer", async () => {
    const [socket, visit] = await established();
    const message = once<MessageEvent>(socket, "message");
    visit.send(new Uint8Array([1, 2]));
    const { data } = await message;
    assert.ok(data instanceof Blob);
    assert.deepEqual(new Uint8Array(await data.arrayBuffer()), new Uint8Array([1, 2]));
  });

  it("keep their order around a Blob that is still being read", async () => {
    const [socket, visit] = await established();
    socket.send("one");
    socket.send(new Blob(["two"]));
    socket.send("three");
    assert.equal(socket.bufferedAmount, 11);
    assert.equal(await visit.text(), "one");
    assert.equal(Buffer.from(await visit.bytes()).toString(), "two");
    assert.equal(await visit.text(), "three");
  });

  it("are copied at the call, and counted by bufferedAmount until they are acked", async () => {
    const [socket, visit] = await established();
    const bytes = new Uint8Array([1, 2, 3]);
    socket.send(bytes);
    bytes.fill(0);
    socket.send("äö");
    assert.equal(socket.bufferedAmount, 7);
    assert.deepEqual(await visit.heard.next("bytes"), { bytes: new Uint8Array([1, 2, 3]) });
    visit.say({ type: "ack", received: 1 });
    visit.send("behind the ack");
    await once(socket, "message");
    assert.equal(socket.bufferedAmount, 4);
  });

  it("are acked within 250 ms", async () => {
    const [, visit] = await established();
    visit.send("a");
    visit.send("b");
    const ack = await visit.frame("ack");
    assert.deepEqual(ack, { type: "ack", received: 2 });
  });
});

describe("a connection that is lost", () => {
  it("comes back with its token; nothing is lost and nothing comes twice", async () => {
    const [socket, first] = await established();
    const got = collect(socket);
    first.send("h1");
    first.send("h2");
    socket.send("c1");
    socket.send("c2");
    await first.text();
    await first.text();
    const lost = once<TidegateEvent<{ code: number }>>(socket, "reconnecting");
    first.cut();
    assert.equal((await lost).detail.code, 1006);
    assert.equal(socket.readyState, TidegateSocket.OPEN);
    socket.send("c3");
    const second = await hub.visit();
    const resumed = once(socket, "resumed");
    const hello = await second.welcome({ resumed: true, token: "t-2", from: 1, received: 1 });
    assert.deepEqual(
      { ...hello, received: 2 },
      { type: "hello", token: "t-1", try: 2, old: "lost", received: 2, epoch: 1, ...langOf(hello) },
    );
    await resumed;
    assert.equal(await second.text(), "c2");
    assert.equal(await second.text(), "c3");
    const third = once(socket, "message");
    second.send("h2");
    second.send("h3");
    await third;
    assert.deepEqual(got, ["h1", "h2", "h3"]);
  });

  it("ends the socket when the code says that nobody should come back", async () => {
    const [socket, visit] = await established();
    const closed = once<CloseEvent>(socket, "close");
    visit.close(4513, "another connection took this session over");
    const { code, wasClean } = await closed;
    assert.deepEqual([code, wasClean], [4513, true]);
  });

  it("is noticed by silence: it asks twice and then comes back", async () => {
    const [socket, visit] = await established({ heartbeat: 60 });
    await visit.frame("ping");
    await visit.frame("ping");
    assert.equal(await visit.closed(), 4000);
    assert.equal(socket.readyState, TidegateSocket.OPEN);
    assert.equal((await (await hub.visit()).frame("hello"))["old"], "lost");
  });
});

function langOf(hello: Record<string, unknown>): Record<string, unknown> {
  return "language" in hello ? { language: hello["language"] } : {};
}

describe("a drain", () => {
  it("is announced by an event and by the draining promise, and answered by the readiness callback", async () => {
    const asked: string[] = [];
    const [socket, visit] = await established({
      readiness: (notice) => {
        asked.push(notice.text);
        return { busy: 4_999.2, why: "typing" };
      },
    });
    const draining = socket.draining;
    visit.say(NOTICE);
    assert.equal((await within("draining", draining)).slotMs, 20_000);
    assert.deepEqual(await visit.frame("busy"), { type: "busy", drain: "d-1", ms: 5_000, why: "typing" });
    socket.ready();
    assert.deepEqual(await visit.frame("ready"), { type: "ready", drain: "d-1" });
    for (const [given, ms] of [[Infinity, Number.MAX_SAFE_INTEGER], [-1, 0], [Number.NaN, 0]] as const) {
      socket.busy(given);
      assert.deepEqual(await visit.frame("busy"), { type: "busy", drain: "d-1", ms }, `the hub can read busy(${given})`);
    }
    assert.deepEqual(asked, [NOTICE.text]);
  });

  it("moves the session to a second connection, and works on the first until the welcome", async () => {
    const [socket, first] = await established();
    const got = collect(socket);
    first.say(NOTICE);
    first.send("h1");
    socket.send("c1");
    assert.equal(await first.text(), "c1");
    first.say({ type: "move", drain: "d-1", seq: 2, token: "t-move" });
    const second = await hub.visit();
    const hello = await second.frame("hello");
    assert.equal(hello["token"], "t-move");
    assert.equal(hello["old"], "open");
    first.send("h2");
    await once(socket, "message");
    socket.send("c2");
    assert.equal(await first.text(), "c2");
    const moved = once<TidegateEvent<{ hub: string }>>(socket, "moved");
    second.say({ ...welcome2(), from: 1, received: 1 });
    assert.equal((await moved).detail.hub, "hub-b");
    assert.equal(await first.closed(), 1000);
    assert.equal(await second.text(), "c2");
    const message = once(socket, "message");
    second.send("h2");
    second.send("h3");
    await message;
    assert.deepEqual(got, ["h1", "h2", "h3"]);
  });

  it("that is recalled leaves everything as it was", async () => {
    const [socket, visit] = await established();
    const draining = socket.draining;
    visit.say(NOTICE);
    await once(socket, "notice");
    visit.say({ type: "recall", drain: "d-1", seq: 2 });
    await once(socket, "recalled");
    assert.notEqual(socket.draining, draining);
    socket.send("still here");
    assert.equal(await visit.text(), "still here");
  });

  it("that answers the second connection with retry is asked again, while the first works on", async () => {
    const [socket, first] = await established();
    first.say({ type: "move", drain: "d-1", seq: 1, token: "t-move" });
    const second = await hub.visit();
    await second.frame("hello");
    second.say({ type: "retry", after_ms: 100, why: "moving" });
    const third = await hub.visit();
    const hello = await third.frame("hello");
    assert.deepEqual([hello["try"], hello["old"]], [3, "open"]);
    socket.send("meanwhile");
    assert.equal(await first.text(), "meanwhile");
  });
});

function welcome2(): Record<string, unknown> {
  return welcomeFrame({ token: "t-2", generation: 2, resumed: true, hub: "hub-b" });
}

describe("continuity that is lost", () => {
  async function lose(): Promise<[TidegateSocket, Visit]> {
    const [socket, first] = await established();
    socket.send("taken");
    socket.send("not taken");
    await first.text();
    first.say({ type: "ack", received: 1 });
    await first.text();
    first.cut();
    const second = await hub.visit();
    await second.frame("hello");
    second.say({ type: "reset", why: "owner_lost", replaces: "s-1" });
    return [socket, second];
  }

  it("is told by reset with what was not taken, and then by close 4400", async () => {
    const [socket, visit] = await lose();
    const reset = once<TidegateEvent<ResetDetail>>(socket, "reset");
    const closed = once<CloseEvent>(socket, "close");
    visit.say({ ...welcome2(), session: "s-2", epoch: 2, resumed: false });
    assert.deepEqual((await reset).detail, {
      session: "s-2",
      replaces: "s-1",
      why: "owner_lost",
      unsent: ["not taken"],
    });
    assert.equal((await closed).code, 4400);
    assert.equal((await visit.frame("bye"))["code"], 4400);
  });

  it("gives back what the hub had counted and not acked, in order before what it never counted", async () => {
    const [socket, first] = await established();
    for (const text of ["acked", "counted", "uncounted"]) socket.send(text);
    for (let n = 0; n < 3; n += 1) await first.text();
    first.say({ type: "ack", received: 1 });
    first.send("behind the ack");
    await once(socket, "message");
    first.cut();
    const second = await hub.visit();
    const resumed = once(socket, "resumed");
    await second.welcome({ resumed: true, token: "t-2", received: 2 });
    await resumed;
    assert.equal(await second.text(), "uncounted", "only what lies beyond welcome.received is resent");
    assert.equal(socket.bufferedAmount, "counted".length + "uncounted".length);
    second.cut();
    await once(socket, "reconnecting");
    socket.send("meanwhile");
    const third = await hub.visit();
    await third.frame("hello");
    const reset = once<TidegateEvent<ResetDetail>>(socket, "reset");
    third.say({ type: "reset", why: "owner_lost", replaces: "s-1" });
    third.say({ ...welcome2(), session: "s-2", epoch: 2, resumed: false });
    assert.deepEqual((await reset).detail.unsent, ["counted", "uncounted", "meanwhile"]);
    assert.equal(socket.bufferedAmount, 0);
  });

  it("does not close the socket when the application takes care of it by preventDefault", async () => {
    const [socket, visit] = await lose();
    socket.addEventListener("reset", (event) => {
      event.preventDefault();
      for (const message of event.detail.unsent) socket.send(message);
    });
    visit.say({ ...welcome2(), session: "s-2", epoch: 2, resumed: false });
    assert.equal(await visit.text(), "not taken");
    assert.equal(socket.readyState, TidegateSocket.OPEN);
    assert.equal(socket.session, "s-2");
  });
});

describe("limits", () => {
  it("close the socket by default, as a browser does", async () => {
    const [socket, visit] = await established({ maxBuffered: 10 });
    const closed = once<CloseEvent>(socket, "close");
    const errored = once(socket, "error");
    socket.send("12345678");
    socket.send("90ab");
    assert.equal(socket.readyState, TidegateSocket.CLOSING);
    await errored;
    assert.equal((await closed).code, 1006);
    assert.equal(await visit.text(), "12345678");
    const bye = await visit.frame("bye");
    assert.deepEqual([bye["code"], bye["reason"]], [1011, "12 bytes unacked; at most 10"], "no normal end for the app");
  });

  it("throw if the application wants that, and leave the socket as it is", async () => {
    const [socket, visit] = await established({ maxBuffered: 10, overflow: "throw" });
    assert.throws(() => socket.send("12345678901"), { name: "QuotaExceededError" });
    socket.send("fits");
    assert.equal(await visit.text(), "fits");
  });
});

describe("the end", () => {
  it("by close() tells the hub code and reason behind all that was sent, and echoes them", async () => {
    const [socket, visit] = await established();
    const closed = once<CloseEvent>(socket, "close");
    socket.send(new Blob(["last words"]));
    socket.close(4321, "done here");
    assert.equal(socket.readyState, TidegateSocket.CLOSING);
    socket.send("too late");
    assert.ok("bytes" in (await visit.heard.next("the Blob")));
    assert.deepEqual(await visit.frame("bye"), { type: "bye", code: 4321, reason: "done here" });
    assert.equal(await visit.closed(), 1000);
    const { code, reason, wasClean } = await closed;
    assert.deepEqual([code, reason, wasClean], [4321, "done here", true]);
    assert.equal(socket.session, null);
  });

  it("by the app's bye carries the app's code and reason", async () => {
    const [socket, visit] = await established();
    const closed = once<CloseEvent>(socket, "close");
    visit.say({ type: "bye", code: 4001, reason: "kicked" });
    const { code, reason, wasClean } = await closed;
    assert.deepEqual([code, reason, wasClean], [4001, "kicked", true]);
  });

  it("by close() without a connection comes back once more to say bye", async () => {
    const [socket, first] = await established();
    socket.send("unacked");
    await first.text();
    first.cut();
    await once(socket, "reconnecting");
    const closed = once<CloseEvent>(socket, "close");
    socket.close(1000, "bye");
    const second = await hub.visit();
    await second.welcome({ resumed: true, received: 0 });
    assert.equal(await second.text(), "unacked");
    assert.equal((await second.frame("bye"))["code"], 1000);
    assert.equal((await closed).wasClean, true);
  });

  it("by a hub that breaks the protocol is error and close 4500 with the fault", async () => {
    const [socket, visit] = await established();
    const closed = once<CloseEvent>(socket, "close");
    visit.say({ type: "dance" });
    const { code, reason } = await closed;
    assert.deepEqual([code, reason], [4500, 'unknown frame type "dance"']);
    assert.equal(await visit.closed(), 4500);
  });
});

describe("arguments", () => {
  const bad = (url: string, protocols?: string | string[]) => () => new TidegateSocket(url, protocols, { WebSocket });

  it("are refused with SyntaxError as a browser does", () => {
    for (const url of ["not a url", "ftp://example.com/", "ws://example.com/#part"]) assert.throws(bad(url), { name: "SyntaxError" });
    assert.throws(bad("ws://example.com/", ["a", "a"]), { name: "SyntaxError" });
    assert.throws(bad("ws://example.com/", "a b"), { name: "SyntaxError" });
  });

  it("of close and send are checked too", async () => {
    const socket = connect();
    assert.throws(() => socket.send("early"), { name: "InvalidStateError" });
    assert.throws(() => socket.close(1001), { name: "InvalidAccessError" });
    assert.throws(() => socket.close(4000, "x".repeat(124)), { name: "SyntaxError" });
  });

  it("can be bound to a class for libraries that construct by themselves", async () => {
    const Bound = TidegateSocket.with({ WebSocket, environment, language: "fr" });
    const socket = new Bound(hub.url);
    open.push(socket);
    assert.equal((await (await hub.visit()).welcome())["language"], "fr");
    assert.equal(Bound.OPEN, 1);
    assert.ok(socket instanceof TidegateSocket);
  });
});
