/** One connection: the WebSocket underneath, with its number, and deaf for ever once it is dropped. */
import { bytesIn } from "./bytes.js";
import { cutReason } from "./close.js";
import { SUBPROTOCOL, parse, sort } from "./frames.js";
import type { Payload } from "./outbox.js";
import type { Input } from "./state.js";

/** What the SDK needs of a WebSocket: the browser's has it, and the `ws` package's. */
export interface Transport {
  binaryType: string;
  readonly readyState: number;
  readonly protocol: string;
  readonly extensions: string;
  onopen: ((event: never) => void) | null;
  onmessage: ((event: never) => void) | null;
  onerror: ((event: never) => void) | null;
  onclose: ((event: never) => void) | null;
  send(data: string | ArrayBuffer): void;
  close(code?: number, reason?: string): void;
}

/** A WebSocket class, as the `WebSocket` option takes it. */
export type TransportClass = new (url: string, protocols: string[]) => Transport;

const OPEN = 1;
const CLOSED = 3;

/** A numbered connection that turns what its WebSocket says into inputs of the machine. */
export class Connection {
  readonly #transport: Transport;
  readonly #isBarred: boolean;

  /**
   * Opens it.
   *
   * @param create - the WebSocket class
   * @param url - where to
   * @param conn - its number, part of each input
   * @param feed - takes the inputs
   */
  constructor(create: TransportClass, url: string, conn: number, feed: (input: Input) => void) {
    const transport = new create(url, [SUBPROTOCOL]);
    this.#transport = transport;
    this.#isBarred = transport.readyState === CLOSED;
    if (this.#isBarred) return;
    // Blobs can be read only later, and order would be lost; the socket makes them for its own application.
    transport.binaryType = "arraybuffer";
    transport.onopen = () => {
      if (transport.protocol === SUBPROTOCOL) feed({ type: "opened", conn });
      else feed({ type: "fault", conn, reason: `the server did not choose ${SUBPROTOCOL}: it is not a Tidegate hub` });
    };
    transport.onmessage = (event: { readonly data: unknown }) => feed(read(conn, event.data));
    // `close` follows and says more.
    transport.onerror = ignore;
    transport.onclose = (event: { readonly code: number; readonly reason: string }) => {
      feed({ type: "closed", conn, code: event.code, reason: event.reason });
    };
  }

  /** Whether it was closed before anything could happen: the address is forbidden, and no event will tell. */
  get isBarred(): boolean {
    return this.#isBarred;
  }

  /** What the WebSocket negotiated. */
  get extensions(): string {
    return this.#transport.extensions;
  }

  /**
   * Sends; nothing if the connection is not open (the outbox has what must not be lost).
   *
   * @param data - as it travels
   */
  send(data: Payload): void {
    if (this.#transport.readyState === OPEN) this.#transport.send(data);
  }

  /** Begins the closing handshake with 1000, and goes on listening. */
  part(): void {
    this.#transport.close(1000);
  }

  /**
   * Closes, and hears nothing more.
   *
   * @param code - 1000 or 3000–4999; absent: none
   * @param reason - cut to what WebSocket allows
   */
  drop(code?: number, reason?: string): void {
    const transport = this.#transport;
    // An error of a dropped connection still needs a listener where `ws` is an event emitter of Node.
    transport.onopen = transport.onmessage = transport.onerror = transport.onclose = ignore;
    if (code === undefined) transport.close();
    else transport.close(code, cutReason(reason ?? ""));
  }
}

function ignore(): void {}

function read(conn: number, data: unknown): Input {
  const bytes = bytesIn(data);
  if (bytes !== null) return { type: "message", conn, data: bytes };
  if (typeof data !== "string") return { type: "fault", conn, reason: "a message that is neither text nor bytes" };
  const sorted = sort(data);
  if (sorted.kind === "app") return { type: "message", conn, data: sorted.text };
  const parsed = parse(sorted.json);
  return parsed.ok ? { type: "frame", conn, frame: parsed.frame } : { type: "fault", conn, reason: parsed.fault };
}
