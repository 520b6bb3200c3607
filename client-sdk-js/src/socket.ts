/**
 * `TidegateSocket`: the browser's `WebSocket` interface over a session that outlives connections.
 * The only file with timers, chance and a WebSocket; what to do is decided in `machine.ts`.
 */
import { CLOSE, REASON_BYTES_MAX, utf8Length, wellFormed } from "./close.js";
import type {
  DomCloseEvent,
  DomEvent,
  DomEventTargetClass,
  DomMessageEvent,
  DomWebSocket,
  Handler,
  Listener,
  ListenerOptions,
} from "./dom.js";
import { Driver } from "./driver.js";
import {
  Handlers,
  type NoticeDetail,
  type ResetDetail,
  TidegateEvent,
  type TidegateSocketEventMap,
  closeEvent,
  messageEvent,
} from "./events.js";
import { type Address, Home, asThrown } from "./home.js";
import { asInterface, clampedShort } from "./idl.js";
import { type Environment, type Readiness, type TidegateOptions, checkOptions } from "./options.js";
import { BUFFERED_BYTES_MAX } from "./outbox.js";
import { Deferred } from "./deferred.js";
import { type Sendable, Sender, bytesOf, capture } from "./sender.js";
import { type Happening, type Incoming, type Rules, readyState, sessionOf } from "./state.js";
import { checkProtocols } from "./url.js";
import { NATIVE, defaultEnvironment, nativeWebSocket, report, transportClass } from "./world.js";

/** The first connect may take this many milliseconds. */
const CONNECT_TIMEOUT_MS = 20_000;

const BaseTarget: DomEventTargetClass = EventTarget;

/** The events of this socket, typed; the methods are the browser's own. */
export interface TidegateSocket {
  addEventListener<K extends keyof TidegateSocketEventMap>(
    type: K,
    listener: (this: DomWebSocket, event: TidegateSocketEventMap[K]) => unknown,
    options?: boolean | ListenerOptions,
  ): void;
  addEventListener(type: string, listener: Listener | null, options?: boolean | ListenerOptions): void;
  removeEventListener<K extends keyof TidegateSocketEventMap>(
    type: K,
    listener: (this: DomWebSocket, event: TidegateSocketEventMap[K]) => unknown,
    options?: boolean | { capture?: boolean },
  ): void;
  removeEventListener(type: string, listener: Listener | null, options?: boolean | { capture?: boolean }): void;
}

/** A WebSocket that stays OPEN across moves and reconnects. `close()` ends the session; a page reload is a new one. */
export class TidegateSocket extends BaseTarget implements DomWebSocket {
  /** See {@link readyState}. */
  declare static readonly CONNECTING: 0;
  /** See {@link readyState}. */
  declare static readonly OPEN: 1;
  /** See {@link readyState}. */
  declare static readonly CLOSING: 2;
  /** See {@link readyState}. */
  declare static readonly CLOSED: 3;
  /** See {@link readyState}. */
  declare readonly CONNECTING: 0;
  /** See {@link readyState}. */
  declare readonly OPEN: 1;
  /** See {@link readyState}. */
  declare readonly CLOSING: 2;
  /** See {@link readyState}. */
  declare readonly CLOSED: 3;

  readonly #options: TidegateOptions;
  readonly #environment: Environment;
  readonly #home: Home;
  readonly #driver: Driver;
  readonly #sender: Sender;
  readonly #maxBuffered: number;
  readonly #handlers = new Handlers(this);
  #binaryType: "blob" | "arraybuffer" = "blob";
  #draining = new Deferred<NoticeDetail>();
  /** Bytes that nobody will take any more; a browser counts them too. */
  #wasted = 0;
  /** Whether the hub is about to be asked to ack what was taken. */
  #isAsking = false;
  /** Whether the last events were fired. */
  #isOver = false;

  /**
   * Opens a session, as `new WebSocket(url, protocols)` opens a connection.
   *
   * @param url - `ws:`, `wss:`, `http:` or `https:`; relative where there is a page. Or a function that gives it,
   *   asked before each connection, so that what the URL carries is fresh
   * @param protocols - the application's subprotocols; the app's choice comes back in {@link protocol}
   * @param options - see {@link TidegateOptions}
   * @throws DOMException `SyntaxError` for a bad URL, a fragment, a bad or repeated subprotocol
   * @throws RangeError for an option that makes no sense, TypeError where there is no WebSocket class
   */
  constructor(url: Address, protocols: string | string[] = [], options: TidegateOptions = {}) {
    super();
    if (arguments.length === 0) throw new TypeError("TidegateSocket: 1 argument required, but only 0 present.");
    checkOptions(options);
    this.#options = options;
    this.#environment = { ...defaultEnvironment(), ...options.environment };
    const create = transportClass(options.WebSocket);
    const rules = rulesOf(protocols, options);
    this.#home = homeOf(url);
    this.#maxBuffered = options.maxBuffered ?? BUFFERED_BYTES_MAX;
    this.#sender = new Sender(
      (payload) => this.#driver.send(payload),
      () => this.#driver.feed({ type: "flushed" }),
      () => this.#driver.feed({ type: "fail", code: CLOSE.abnormal, reason: "a Blob could not be read" }),
    );
    this.#driver = new Driver({
      rules,
      home: this.#home,
      environment: this.#environment,
      create,
      token: options.token,
      maxBuffered: this.#maxBuffered,
      tell: (event) => this.#tell(event),
      deliver: (data) => this.#deliver(data),
      report,
    });
  }

  /**
   * A class with these options, for libraries that construct with `(url, protocols)` only.
   *
   * @param options - what every socket of the class starts with
   */
  static with(options: TidegateOptions): typeof TidegateSocket {
    return class extends TidegateSocket {
      constructor(url: Address, protocols: string | string[] = [], more: TidegateOptions = {}) {
        super(url, protocols, { ...options, ...more });
      }
    };
  }

  /** What this class stands for, should it be put in the place of `WebSocket`. */
  static get [NATIVE](): unknown {
    return nativeWebSocket();
  }

  /** The URL that the application gave, normalised; moves do not change it. Of a function: its newest answer. */
  get url(): string {
    return this.#home.current;
  }

  /** The subprotocol that the app chose, or empty. */
  get protocol(): string {
    const { state } = this.#driver;
    return state.name === "closed" ? state.protocol : (sessionOf(state)?.protocol ?? "");
  }

  /** The WebSocket extensions of the newest connection. */
  get extensions(): string {
    return this.#driver.extensions;
  }

  /** CONNECTING until the first welcome, then OPEN until the end, whatever connections do. */
  get readyState(): 0 | 1 | 2 | 3 {
    if (this.#isOver) return 3;
    const { state } = this.#driver;
    return state.name === "closed" ? 2 : readyState(state);
  }

  /** Bytes that were sent and not acked yet. Who looks at it waits, so the hub is asked to ack soon. */
  get bufferedAmount(): number {
    if (this.#driver.outbox.bytes > 0) this.#askForAck();
    return this.#buffered + this.#wasted;
  }

  /** How binary messages arrive: `blob` or `arraybuffer`. */
  get binaryType(): "blob" | "arraybuffer" {
    return this.#binaryType;
  }

  set binaryType(type: "blob" | "arraybuffer") {
    // A browser ignores what is no member of the enumeration.
    if (type === "blob" || type === "arraybuffer") this.#binaryType = type;
  }

  /** The session's public id; null before the first `open` and after `close`. */
  get session(): string | null {
    return sessionOf(this.#driver.state)?.id ?? null;
  }

  /** Resolves at the next notice, as in WebTransport; after a move or a recall there is a new promise. */
  get draining(): Promise<NoticeDetail> {
    return this.#draining.promise;
  }

  /** Called when the session is open. */
  get onopen(): Handler<DomEvent> {
    return this.#handlers.get("open");
  }

  set onopen(handler: Handler<DomEvent>) {
    this.#handlers.set("open", handler);
  }

  /** Called with each of the app's messages. */
  get onmessage(): Handler<DomMessageEvent> {
    return this.#handlers.get("message");
  }

  set onmessage(handler: Handler<DomMessageEvent>) {
    this.#handlers.set("message", handler);
  }

  /** Called before a `close` that is a failure. */
  get onerror(): Handler<DomEvent> {
    return this.#handlers.get("error");
  }

  set onerror(handler: Handler<DomEvent>) {
    this.#handlers.set("error", handler);
  }

  /** Called once, at the end. */
  get onclose(): Handler<DomCloseEvent> {
    return this.#handlers.get("close");
  }

  set onclose(handler: Handler<DomCloseEvent>) {
    this.#handlers.set("close", handler);
  }

  /**
   * Sends a message. It is kept until a hub has acked it, and resent after a move or a reconnect.
   *
   * @param data - a text, bytes (copied), or a Blob
   * @throws DOMException `InvalidStateError` while CONNECTING; `QuotaExceededError` above a limit with `overflow: "throw"`
   */
  send(data: Sendable): void {
    if (arguments.length === 0) throw new TypeError("TidegateSocket.send: 1 argument required, but only 0 present.");
    const sent = capture(data);
    const { readyState } = this;
    if (readyState === 0) throw new DOMException("Still in CONNECTING state.", "InvalidStateError");
    const bytes = bytesOf(sent);
    if (readyState !== 1) {
      this.#wasted += bytes;
      return;
    }
    const limit = sessionOf(this.#driver.state)?.messageBytes ?? Infinity;
    if (bytes > limit) {
      this.#overflow(CLOSE.tooBig, `a message of ${bytes} bytes; the hub takes ${limit}`);
    } else if (!this.#driver.outbox.fits(this.#sender.bytes + bytes)) {
      this.#overflow(CLOSE.abnormal, `${this.#buffered + bytes} bytes unacked; at most ${this.#maxBuffered}`);
    } else {
      this.#sender.push(sent);
    }
  }

  /**
   * Ends the session: the app behind the hub sees this code and reason.
   *
   * @param code - 1000 or 3000–4999
   * @param reason - at most 123 bytes
   * @throws DOMException `InvalidAccessError` for another code, `SyntaxError` for a longer reason
   */
  close(...args: [code?: number, reason?: string]): void {
    // A list, so that the method has no needed argument, as a browser's.
    const [code, reason] = args;
    const short = code === undefined ? undefined : clampedShort(code);
    if (short !== undefined && short !== 1000 && !(short >= 3000 && short <= 4999)) {
      throw new DOMException(`The close code must be 1000, or 3000 to 4999, not ${short}.`, "InvalidAccessError");
    }
    const text = reason === undefined ? undefined : wellFormed(`${reason}`);
    if (text !== undefined && utf8Length(text) > REASON_BYTES_MAX) {
      throw new DOMException(`The close reason must not be longer than ${REASON_BYTES_MAX} bytes.`, "SyntaxError");
    }
    const bye = { ...(short !== undefined && { code: short }), ...(text !== undefined && { reason: text }) };
    this.#driver.feed({ type: "close", bye, flushed: this.#sender.isIdle });
  }

  /** Answers a notice: this client may be moved now. Nothing without a notice. */
  ready(): void {
    this.#driver.feed({ type: "ready", drain: null });
  }

  /**
   * Answers a notice: please not yet. Nothing without a notice.
   *
   * @param ms - for how long, in milliseconds from now
   * @param why - for the operator's eyes; cut to 123 bytes
   */
  busy(ms: number, why?: string): void {
    this.#driver.feed({ type: "busy", drain: null, ms: wholeMs(ms), ...(why !== undefined && { why }) });
  }

  get #buffered(): number {
    return this.#driver.outbox.bytes + this.#sender.bytes;
  }

  /** Once for all that is sent in this turn of the page. */
  #askForAck(): void {
    if (this.#isAsking) return;
    this.#isAsking = true;
    queueMicrotask(() => {
      this.#isAsking = false;
      this.#driver.feed({ type: "waits" });
    });
  }

  #overflow(code: number, reason: string): void {
    if (this.#options.overflow === "throw") throw new DOMException(reason, "QuotaExceededError");
    this.#driver.feed({ type: "fail", code, reason });
  }

  #deliver(data: Incoming): void {
    // A listener may have closed the socket between two messages.
    if (this.readyState !== 1) return;
    const shown = typeof data === "string" || this.#binaryType === "arraybuffer" ? data : new Blob([data]);
    this.dispatchEvent(messageEvent(shown, new URL(this.url).origin));
  }

  #tell(event: Happening): void {
    switch (event.type) {
      case "open":
        this.dispatchEvent(new Event("open"));
        return;
      case "close":
        return this.#end(event);
      case "reset":
        return this.#reset(event);
      case "notice":
        return this.#notice(event);
      case "moved":
      case "recalled":
      case "resumed":
        this.#draining = this.#draining.next();
        break;
      default:
        break;
    }
    const { type, ...detail } = event;
    this.dispatchEvent(new TidegateEvent(type, detail));
  }

  #end(event: Extract<Happening, { type: "close" }>): void {
    // Who closed in the right way took everything that came before; what else waits is lost, and stays counted.
    if (!event.wasClean) this.#wasted += this.#buffered;
    this.#sender.takeAll();
    this.#driver.outbox.takeAll();
    // A browser never fires inside of `close()`, `send()` or the constructor, nor before the next turn of the page.
    this.#environment.setTimeout(() => {
      this.#isOver = true;
      if (event.failed) this.dispatchEvent(new Event("error"));
      this.dispatchEvent(closeEvent(event.code, event.reason, event.wasClean));
    }, 0);
  }

  #reset(event: Extract<Happening, { type: "reset" }>): void {
    const { session, replaces, why } = event;
    const unsent = [...this.#driver.outbox.takeAll(), ...this.#sender.takeAll()];
    const detail: ResetDetail = { session, replaces, why, unsent };
    this.#draining = this.#draining.next();
    const isLeft = this.dispatchEvent(new TidegateEvent("reset", detail, true));
    if (isLeft) this.#driver.feed({ type: "forsake", why });
  }

  #notice(event: Extract<Happening, { type: "notice" }>): void {
    const { type, ...detail } = event;
    this.#draining.resolve(detail);
    this.dispatchEvent(new TidegateEvent(type, detail));
    const { readiness } = this.#options;
    if (readiness === undefined) return;
    // Inside a promise, so that a callback that throws is the same as one that rejects: no answer.
    void Promise.resolve(detail)
      .then(readiness)
      .then((answer) => this.#answer(detail.drain, answer), report);
  }

  #answer(drain: string, answer: Readiness): void {
    if (answer === true || answer === "ready") {
      this.#driver.feed({ type: "ready", drain });
    } else if (typeof answer === "object" && answer !== null) {
      const why = answer.why === undefined ? {} : { why: answer.why };
      this.#driver.feed({ type: "busy", drain, ms: wholeMs(answer.busy), ...why });
    }
  }
}

asInterface(TidegateSocket, "WebSocket", { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 });

function homeOf(url: Address): Home {
  try {
    return new Home(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (error) {
    throw asThrown(error);
  }
}

function rulesOf(protocols: unknown, options: TidegateOptions): Omit<Rules, "home"> {
  try {
    return {
      protocols: checkProtocols(protocols),
      language: options.language ?? globalThis.navigator?.language ?? "",
      connectTimeoutMs: options.connectTimeout ?? CONNECT_TIMEOUT_MS,
      heartbeatMaxMs: options.heartbeat ?? Infinity,
      allowHosts: options.allowHosts ?? [],
      renewable: typeof options.token === "function",
    };
  } catch (error) {
    throw asThrown(error);
  }
}

/** `ms` on the wire is whole and not negative; for ever is the longest that the hub can read. */
function wholeMs(ms: number): number {
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(0, Math.ceil(ms)), Number.MAX_SAFE_INTEGER);
}
