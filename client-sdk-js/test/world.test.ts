/** The world around the socket: other realms, other classes, functions that throw, addresses that are forbidden. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { afterEach, beforeEach, describe, it } from "node:test";
import { runInNewContext } from "node:vm";
import WebSocket from "ws";
import { type BarredDetail, type TidegateEvent, type TidegateOptions, TidegateSocket } from "../src/index.js";
import { Hub, type Visit, once, welcomeFrame } from "./hub.js";

let hub: Hub;
let open: TidegateSocket[];
let reported: unknown[];

beforeEach(async () => {
  hub = await Hub.start();
  open = [];
  reported = [];
  globalThis.reportError = (error) => reported.push(error);
});

afterEach(async () => {
  for (const socket of open) socket.close();
  await hub.stop();
});

const environment = {
  random: () => 0,
  setTimeout: (callback: () => void, ms: number) => setTimeout(callback, ms).unref(),
};

type Url = ConstructorParameters<typeof TidegateSocket>[0];

function connect(options: TidegateOptions = {}, url: Url = hub.url): TidegateSocket {
  const socket = new TidegateSocket(url, [], { WebSocket, environment, ...options });
  open.push(socket);
  return socket;
}

async function established(options: TidegateOptions = {}, url: Url = hub.url): Promise<[TidegateSocket, Visit]> {
  const socket = connect(options, url);
  const opened = once(socket, "open");
  const visit = await hub.visit();
  await visit.welcome();
  await opened;
  return [socket, visit];
}

/** Something of a realm whose classes are not ours. */
function foreign<T>(code: string): T {
  return runInNewContext(code) as T;
}

describe("what comes from another realm", () => {
  it("is sent as the bytes that it is", async () => {
    const [socket, visit] = await established();
    const bytes = foreign<Uint8Array<ArrayBuffer>>("new Uint8Array([1, 2, 3])");
    assert.ok(!(bytes.buffer instanceof ArrayBuffer), "it is of another realm");
    for (const one of [bytes, bytes.buffer, foreign<DataView>("new DataView(Uint8Array.of(1, 2, 3).buffer)")]) {
      socket.send(one);
      assert.deepEqual([...(await visit.bytes())], [1, 2, 3]);
    }
    assert.equal(socket.bufferedAmount, 9);
  });

  it("is received as the bytes that it is", async () => {
    /** As where a test runner's globals are not those of the WebSocket class. */
    class Foreign extends WebSocket {
      constructor(url: string, protocols?: string[]) {
        super(url, protocols);
        Object.defineProperty(this, "onmessage", { set: (listener) => this.#listen(listener) });
      }

      #listen(listener: (event: { data: unknown }) => void): void {
        this.on("message", (data, isBinary) => {
          const bytes = [...new Uint8Array(data)];
          listener({ data: isBinary ? foreign(`Uint8Array.of(${bytes.join()}).buffer`) : Buffer.from(data).toString() });
        });
      }
    }
    const [socket, visit] = await established({ WebSocket: Foreign });
    const message = once<MessageEvent>(socket, "message");
    visit.send(new Uint8Array([4, 5]));
    assert.deepEqual([...new Uint8Array(await ((await message).data as Blob).arrayBuffer())], [4, 5]);
  });

  it("is refused where others may write to it meanwhile", async () => {
    const [socket] = await established();
    const shared = new SharedArrayBuffer(3) as unknown as ArrayBuffer;
    for (const one of [shared, new Uint8Array(shared), foreign<ArrayBuffer>("new SharedArrayBuffer(3)")]) {
      assert.throws(() => socket.send(one), TypeError);
    }
    assert.equal(socket.bufferedAmount, 0);
  });
});

describe("an application that sends much", () => {
  it("may send three times 500 KB in a row", async () => {
    const [socket, visit] = await established();
    const part = new Uint8Array(500_000);
    for (let n = 0; n < 3; n += 1) socket.send(part);
    for (let n = 0; n < 3; n += 1) assert.equal((await visit.bytes()).byteLength, 500_000);
    assert.equal(socket.readyState, TidegateSocket.OPEN);
  });

  it("and looks at bufferedAmount has the hub asked for an ack, once for all it sent in that turn", async () => {
    const [socket, visit] = await established();
    socket.send("one");
    assert.equal(socket.bufferedAmount, 3);
    socket.send("two");
    assert.equal(socket.bufferedAmount, 6);
    assert.equal(await visit.text(), "one");
    assert.deepEqual(await visit.heard.next("what was sent in the same turn"), { text: "two" });
    assert.deepEqual(await visit.heard.next("the question"), { frame: { type: "ping" } });
    assert.equal(socket.bufferedAmount, 6, "and another look asks nothing");
    await Promise.resolve();
    socket.send("three");
    assert.deepEqual(await visit.heard.next("the next message, and no question before it"), { text: "three" });
    visit.say({ type: "ack", received: 3 });
    visit.send("behind the ack");
    await once(socket, "message");
    assert.equal(socket.bufferedAmount, 0);
  });
});

describe("a function of the application's that throws", () => {
  const fails = () => {
    throw new Error("no ticket today");
  };

  it("fails the first connect at once, and is reported", async () => {
    for (const socket of [connect({ token: fails }), connect({}, async () => fails())]) {
      const close = await once<CloseEvent>(socket, "close");
      assert.equal(close.code, 1006);
      assert.match(close.reason, /^the (token|url) function failed: no ticket today$/);
    }
    assert.deepEqual(reported.map((error) => (error as Error).message), ["no ticket today", "no ticket today"]);
    assert.throws(() => connect({}, fails), { message: "no ticket today" }, "in the constructor it is thrown");
  });

  it("later is the reason of the reconnecting that it causes, and is reported; the session waits", async () => {
    let works = true;
    const [socket, first] = await established({ token: () => (works ? "jwt" : fails()) });
    works = false;
    const reasons: string[] = [];
    socket.addEventListener("reconnecting", ({ detail }) => {
      reasons.push(detail.reason);
      works = reasons.length > 1;
    });
    first.close(4522, "exp has passed");
    assert.equal((await (await hub.visit()).frame("hello"))["token"], "t-1");
    assert.deepEqual(reasons, ["exp has passed", "the token function failed: no ticket today"]);
    assert.equal(reported.length, 1);
  });
});

describe("a URL that is a function", () => {
  it("is asked before each connection, so that what it carries is fresh", async () => {
    let asked = 0;
    const { url } = hub;
    const [socket, first] = await established({}, () => `${url}?ticket=${(asked += 1)}`);
    assert.equal(first.path, "/connect?ticket=1");
    assert.equal(socket.url, `${hub.url}?ticket=1`);
    first.cut();
    const second = await hub.visit();
    assert.equal(second.path, "/connect?ticket=2");
    assert.equal(socket.url, `${hub.url}?ticket=2`);
    await second.welcome({ resumed: true, token: "t-2" });
    await once(socket, "resumed");
    second.say({ type: "move", drain: "d-1", seq: 1, token: "t-3", url: `ws://127.0.0.1:${hub.port}` });
    assert.equal((await hub.visit()).path, "/connect?ticket=3", "also where a hub is named");
  });

  it("may take its time", async () => {
    const { url } = hub;
    const socket = connect({}, async () => url);
    assert.equal(socket.url, "");
    await (await hub.visit()).welcome();
    assert.equal(socket.url, hub.url);
  });

  it("that gives nonsense is a SyntaxError in the constructor", () => {
    assert.throws(() => connect({}, () => "nonsense"), { name: "SyntaxError" });
  });
});

describe("an address that this page may not open", () => {
  const MOVE = { type: "move", drain: "d-1", seq: 1, token: "t-move", url: "ws://127.0.0.1:9/connect" };

  /** As Firefox has it: the constructor throws. */
  class Throws extends WebSocket {
    constructor(url: string, protocols?: string[]) {
      if (url.includes(":9/")) throw new Error("NS_ERROR_CONTENT_BLOCKED");
      super(url, protocols);
    }
  }

  /** As Chromium has it: closed from the start, and no event but `error`. */
  class Dead {
    constructor(url: string, protocols: string[]) {
      if (url.includes(":9/")) return { readyState: 3 } as never;
      return new WebSocket(url, protocols) as never;
    }
  }

  for (const [name, WebSocketClass] of [["throws", Throws], ["is closed from the start", Dead]] as const) {
    it(`is passed over at once, told, and remembered: the class ${name}`, async () => {
      const options = { WebSocket: WebSocketClass as NonNullable<TidegateOptions["WebSocket"]> };
      const [socket, first] = await established(options);
      const barred = once<TidegateEvent<BarredDetail>>(socket, "barred");
      first.say(MOVE);
      assert.equal((await barred).detail.url, MOVE.url);
      const second = await hub.visit();
      assert.equal((await second.frame("hello"))["token"], "t-move", "the application's own URL, and no wait");
      const moved = once(socket, "moved");
      second.say(welcomeFrame({ token: "t-2", generation: 2, resumed: true, hub: "hub-b" }));
      await moved;
      second.say({ ...MOVE, seq: 2 });
      let told = 0;
      socket.addEventListener("barred", () => (told += 1));
      await (await hub.visit()).frame("hello");
      assert.equal(told, 0, "it is not tried again");
    });
  }

  it("is thrown by the constructor if it is the application's own, as a browser's does", () => {
    assert.throws(() => connect({ WebSocket: Throws }, "ws://127.0.0.1:9/"), { message: "NS_ERROR_CONTENT_BLOCKED" });
  });
});

describe("an upgrade that is refused", () => {
  it("fails the first connect, and is no end for a session", async () => {
    let status = 403;
    const port = hub.port;
    const [socket, visit] = await established();
    await hub.stop();
    const refused: number[] = [];
    const server = createServer().on("upgrade", (_, stream) => {
      refused.push(status);
      stream.end(`HTTP/1.1 ${status} no\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      status = refused.length === 1 ? 404 : 503;
    });
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    void visit;
    while (refused.length < 3) await once(socket, "reconnecting");
    assert.deepEqual(refused.slice(0, 3), [403, 404, 503]);
    assert.equal(socket.readyState, TidegateSocket.OPEN);
    assert.equal((await once<CloseEvent>(connect(), "close")).code, 1006);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    hub = await Hub.start(port);
    assert.equal((await (await hub.visit()).frame("hello"))["token"], "t-1");
  });
});
