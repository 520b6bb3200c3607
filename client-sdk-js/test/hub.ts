/** A hub that says what the test says: a real WebSocket server, and one `Visit` per connection. */
import assert from "node:assert/strict";
import WebSocket, { WebSocketServer } from "ws";

const MARK = "\u0001";

/** A frame or an app message, as it came. */
export type Heard =
  | { readonly frame: Record<string, unknown> }
  | { readonly text: string }
  | { readonly bytes: Uint8Array }
  | { readonly closed: number; readonly reason: string };

/** Fails a wait that would hang, and says what it was for. */
export async function within<T>(what: string, promise: Promise<T>, ms = 5_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${ms} ms: ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The next event of this type. */
export function once<E extends Event>(target: EventTarget, type: string): Promise<E> {
  const event = new Promise<E>((resolve) => {
    target.addEventListener(type, (it) => resolve(it as E), { once: true });
  });
  return within(`event ${type}`, event);
}

/** A list that can be waited on. */
export class Queue<T> {
  readonly #items: T[] = [];
  #wake: (() => void) | null = null;

  push(item: T): void {
    this.#items.push(item);
    this.#wake?.();
  }

  get length(): number {
    return this.#items.length;
  }

  async next(what: string): Promise<T> {
    while (this.#items.length === 0) {
      await within(what, new Promise<void>((resolve) => (this.#wake = resolve)));
    }
    return this.#items.shift() as T;
  }
}

/** One connection that a client opened. */
export class Visit {
  readonly heard = new Queue<Heard>();
  readonly path: string;
  readonly #socket: WebSocket;

  constructor(socket: WebSocket, path: string) {
    this.#socket = socket;
    this.path = path;
    socket.on("message", (data, isBinary) => this.heard.push(sort(data, isBinary)));
    socket.on("close", (closed, reason) => this.heard.push({ closed, reason: Buffer.from(reason).toString() }));
  }

  say(frame: Record<string, unknown>): void {
    this.#socket.send(MARK + JSON.stringify(frame));
  }

  send(data: string | Uint8Array): void {
    this.#socket.send(data);
  }

  close(code: number, reason = ""): void {
    this.#socket.close(code, reason);
  }

  /** Cuts the connection without a close frame. */
  cut(): void {
    this.#socket.terminate();
  }

  /** The next frame, which must be of this type. Acks and pings are passed over unless asked for. */
  async frame(type: string): Promise<Record<string, unknown>> {
    for (;;) {
      const heard = await this.heard.next(`frame ${type}`);
      assert.ok("frame" in heard, `expected frame ${type}, got ${JSON.stringify(heard)}`);
      if (heard.frame["type"] === type) return heard.frame;
      const passed = heard.frame["type"] === "ack" || heard.frame["type"] === "ping";
      assert.ok(passed, `expected frame ${type}, got ${JSON.stringify(heard.frame)}`);
    }
  }

  /** The next app text. */
  async text(): Promise<string> {
    for (;;) {
      const heard = await this.heard.next("an app text");
      if (isSmallTalk(heard)) continue;
      assert.ok("text" in heard, `expected an app text, got ${JSON.stringify(heard)}`);
      return heard.text;
    }
  }

  /** The next app message of bytes. */
  async bytes(): Promise<Uint8Array> {
    for (;;) {
      const heard = await this.heard.next("bytes");
      if (isSmallTalk(heard)) continue;
      assert.ok("bytes" in heard, `expected bytes, got ${JSON.stringify(heard)}`);
      return heard.bytes;
    }
  }

  /** The code of the close, which must come next. */
  async closed(): Promise<number> {
    for (;;) {
      const heard = await this.heard.next("a close");
      if (isSmallTalk(heard)) continue;
      assert.ok("closed" in heard, `expected a close, got ${JSON.stringify(heard)}`);
      return heard.closed;
    }
  }

  /** Waits for hello and welcomes it. */
  async welcome(more: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const hello = await this.frame("hello");
    this.say(welcomeFrame(more));
    return hello;
  }
}

/** A complete welcome. */
export function welcomeFrame(more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    type: "welcome",
    session: "s-1",
    token: "t-1",
    epoch: 1,
    generation: 1,
    resumed: false,
    from: 0,
    received: 0,
    heartbeat_ms: 25_000,
    hub: "hub-a",
    limits: { message_bytes: 1_048_576 },
    ...more,
  };
}

/** Ports that a hub of this program had already. */
const usedPorts = new Set<number>();

/** A listening hub. */
export class Hub {
  readonly visits = new Queue<Visit>();
  readonly url: string;
  readonly #server: WebSocketServer;

  private constructor(server: WebSocketServer) {
    this.#server = server;
    this.url = `ws://127.0.0.1:${server.address().port}/connect`;
    server.on("connection", (socket, request) => this.visits.push(new Visit(socket, request.url ?? "")));
  }

  static async start(port = 0): Promise<Hub> {
    const server = new WebSocketServer({ port, host: "127.0.0.1" });
    await new Promise<void>((resolve) => server.on("listening", resolve));
    const hub = new Hub(server);
    if (port !== 0 || !usedPorts.has(hub.port)) {
      usedPorts.add(hub.port);
      return hub;
    }
    // A socket of an earlier test may still be at its goodbye there.
    await hub.stop();
    return Hub.start();
  }

  get port(): number {
    return this.#server.address().port;
  }

  visit(): Promise<Visit> {
    return this.visits.next("a connection");
  }

  async stop(): Promise<void> {
    for (const client of this.#server.clients) client.terminate();
    await new Promise<void>((resolve) => this.#server.close(resolve));
  }
}

/** Acks and pings come when they like. */
function isSmallTalk(heard: Heard): boolean {
  return "frame" in heard && (heard.frame["type"] === "ack" || heard.frame["type"] === "ping");
}

function sort(data: Uint8Array, isBinary: boolean): Heard {
  if (isBinary) return { bytes: new Uint8Array(data) };
  const text = Buffer.from(data).toString();
  if (!text.startsWith(MARK)) return { text };
  if (text.startsWith(MARK + MARK)) return { text: text.slice(1) };
  return { frame: JSON.parse(text.slice(1)) as Record<string, unknown> };
}
