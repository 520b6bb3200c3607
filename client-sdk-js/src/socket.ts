/**
 * `TidegateSocket`: the browser's `WebSocket` interface over a session that outlives connections.
 * The only file with timers, chance and a WebSocket; what to do is decided in `machine.ts`.
 */
import { CLOSE, REASON_BYTES_MAX, utf8Length } from "./close.js";
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
import { type Environment, type Readiness, type TidegateOptions, checkOptions } from "./options.js";
import { BUFFERED_BYTES_MAX } from "./outbox.js";
import { type Sendable, Sender, bytesOf, capture } from "./sender.js";
import { type Happening, type Incoming, type Rules, readyState, sessionOf } from "./state.js";
import type { TransportClass } from "./transport.js";
import { BadAddress, checkProtocols, normalise } from "./url.js";

/** The first connect may take this many milliseconds. */
const CONNECT_TIMEOUT_MS = 20_000;

/** A WebSocket that stays OPEN across moves and reconnects. `close()` ends the session; a page reload is a new one. */
export class TidegateSocket extends EventTarget implements WebSocket {
  /** See {@link readyState}. */
  static readonly CONNECTING = 0;
  /** See {@link readyState}. */
  static readonly OPEN = 1;
  /** See {@link readyState}. */
  static readonly CLOSING = 2;
  /** See {@link readyState}. */
  static readonly CLOSED = 3;
  /** See {@link readyState}. */
  readonly CONNECTING = 0;
  /** See {@link readyState}. */
  readonly OPEN = 1;
  /** See {@link readyState}. */
  readonly CLOSING = 2;
  /** See {@link readyState}. */
  readonly CLOSED = 3;

  readonly #options: TidegateOptions;
  readonly #rules: Rules;
  readonly #driver: Driver;
  readonly #sender: Sender;
  readonly #maxBuffered: number;
  readonly #handlers = new Handlers(this);
  #binaryType: BinaryType = "blob";
  #draining = new Deferred<NoticeDetail>();
  /** Bytes that nobody will take any more; a browser counts them too. */
  #wasted = 0;

  /**
   * Opens a session, as `new WebSocket(url, protocols)` opens a connection.
   *
   * @param url - `ws:`, `wss:`, `http:` or `https:`; relative where there is a page
   * @param protocols - the application's subprotocols; the app's choice comes back in {@link protocol}
   * @param options - see {@link TidegateOptions}
   * @throws DOMException `SyntaxError` for a bad URL, a fragment, a bad or repeated subprotocol
   * @throws RangeError for an option that makes no sense, TypeError where there is no WebSocket class
   */
  constructor(url: string | URL, protocols?: string | string[], options: TidegateOptions = {}) {
    super();
    checkOptions(options);
    this.#options = options;
    this.#rules = rulesOf(url, protocols, options);
    this.#maxBuffered = options.maxBuffered ?? BUFFERED_BYTES_MAX;
    this.#sender = new Sender(
      (payload) => this.#driver.send(payload),
      () => this.#driver.feed({ type: "flushed" }),
      () => this.#driver.feed({ type: "fail", code: CLOSE.abnormal, reason: "a Blob could not be read" }),
    );
    this.#driver = new Driver({
      rules: this.#rules,
      environment: { ...defaultEnvironment(), ...options.environment },
      create: options.WebSocket ?? defaultWebSocket(),
      token: options.token,
      maxBuffered: this.#maxBuffered,
      tell: (event) => this.#tell(event),
      deliver: (data) => this.#deliver(data),
    });
  }

  /**
   * A class with these options, for libraries that construct with `(url, protocols)` only.
   *
   * @param options - what every socket of the class starts with
   */
  static with(options: TidegateOptions): typeof TidegateSocket {
    return class extends TidegateSocket {
      constructor(url: string | URL, protocols?: string | string[], more: TidegateOptions = {}) {
        super(url, protocols, { ...options, ...more });
      }
    };
  }

  /** The URL that the application gave, normalised; moves do not change it. */
  get url(): string {
    return this.#rules.home;
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
    return readyState(this.#driver.state);
  }

  /** Bytes that were sent and not acked yet. */
  get bufferedAmount(): number {
    return this.#driver.outbox.bytes + this.#sender.bytes + this.#wasted;
  }

  /** How binary messages arrive: `blob` or `arraybuffer`. */
  get binaryType(): BinaryType {
    return this.#binaryType;
  }

  set binaryType(type: BinaryType) {
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
  get onopen(): ((this: WebSocket, event: Event) => unknown) | null {
    return this.#handlers.get("open");
  }

  set onopen(handler: ((this: WebSocket, event: Event) => unknown) | null) {
    this.#handlers.set("open", handler);
  }

  /** Called with each of the app's messages. */
  get onmessage(): ((this: WebSocket, event: MessageEvent) => unknown) | null {
    return this.#handlers.get("message");
  }

  set onmessage(handler: ((this: WebSocket, event: MessageEvent) => unknown) | null) {
    this.#handlers.set("message", handler);
  }

  /** Called before a `close` that is a failure. */
  get onerror(): ((this: WebSocket, event: Event) => unknown) | null {
    return this.#handlers.get("error");
  }

  set onerror(handler: ((this: WebSocket, event: Event) => unknown) | null) {
    this.#handlers.set("error", handler);
  }

  /** Called once, at the end. */
  get onclose(): ((this: WebSocket, event: CloseEvent) => unknown) | null {
    return this.#handlers.get("close");
  }

  set onclose(handler: ((this: WebSocket, event: CloseEvent) => unknown) | null) {
    this.#handlers.set("close", handler);
  }

  /**
   * Sends a message. It is kept until a hub has acked it, and resent after a move or a reconnect.
   *
   * @param data - a text, bytes (copied), or a Blob
   * @throws DOMException `InvalidStateError` while CONNECTING; `QuotaExceededError` above a limit with `overflow: "throw"`
   */
  send(data: Sendable): void {
    if (this.readyState === 0) throw new DOMException("Still in CONNECTING state.", "InvalidStateError");
    const sent = capture(data);
    const bytes = bytesOf(sent);
    if (this.readyState !== 1) {
      this.#wasted += bytes;
      return;
    }
    const limit = sessionOf(this.#driver.state)?.messageBytes ?? Infinity;
    if (bytes > limit) {
      this.#overflow(CLOSE.tooBig, `a message of ${bytes} bytes; the hub takes ${limit}`);
    } else if (!this.#driver.outbox.fits(this.#sender.bytes + bytes)) {
      this.#overflow(CLOSE.abnormal, `${this.bufferedAmount + bytes} bytes unacked; at most ${this.#maxBuffered}`);
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
  close(code?: number, reason?: string): void {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException(`The close code must be 1000, or 3000 to 4999, not ${code}.`, "InvalidAccessError");
    }
    if (reason !== undefined && utf8Length(reason) > REASON_BYTES_MAX) {
      throw new DOMException(`The close reason must not be longer than ${REASON_BYTES_MAX} bytes.`, "SyntaxError");
    }
    const bye = { ...(code !== undefined && { code }), ...(reason !== undefined && { reason }) };
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

  /** As in a browser, with the types of this socket's own events. */
  override addEventListener<K extends keyof TidegateSocketEventMap>(
    type: K,
    listener: (this: WebSocket, event: TidegateSocketEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  override addEventListener(type: string, listener: never, options?: boolean | AddEventListenerOptions): void {
    super.addEventListener(type, listener, options);
  }

  /** As in a browser, with the types of this socket's own events. */
  override removeEventListener<K extends keyof TidegateSocketEventMap>(
    type: K,
    listener: (this: WebSocket, event: TidegateSocketEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  override removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
  override removeEventListener(type: string, listener: never, options?: boolean | EventListenerOptions): void {
    super.removeEventListener(type, listener, options);
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
    this.#wasted = this.bufferedAmount;
    this.#sender.takeAll();
    this.#driver.outbox.takeAll();
    // A browser never fires inside of `close()`, `send()` or the constructor.
    queueMicrotask(() => {
      if (event.failed) this.dispatchEvent(new Event("error"));
      this.dispatchEvent(closeEvent(event.code, event.reason, event.wasClean));
    });
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

/** A promise with its resolver. */
class Deferred<T> {
  readonly promise: Promise<T>;
  #resolve!: (value: T) => void;
  #isResolved = false;

  constructor() {
    this.promise = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  resolve(value: T): void {
    this.#isResolved = true;
    this.#resolve(value);
  }

  /** Itself while it is open, a new one after. */
  next(): Deferred<T> {
    return this.#isResolved ? new Deferred() : this;
  }
}

function rulesOf(url: string | URL, protocols: string | string[] | undefined, options: TidegateOptions): Rules {
  try {
    return {
      home: normalise(url, globalThis.document?.baseURI ?? globalThis.location?.href),
      protocols: checkProtocols(protocols),
      language: options.language ?? globalThis.navigator?.language ?? "",
      connectTimeoutMs: options.connectTimeout ?? CONNECT_TIMEOUT_MS,
      heartbeatMaxMs: options.heartbeat ?? Infinity,
      allowHosts: options.allowHosts ?? [],
      renewable: typeof options.token === "function",
    };
  } catch (error) {
    if (error instanceof BadAddress) throw new DOMException(error.message, "SyntaxError");
    throw error;
  }
}

function defaultEnvironment(): Environment {
  return {
    now: () => performance.now(),
    random: () => Math.random(),
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (handle) => clearTimeout(handle as number),
    network: typeof globalThis.addEventListener === "function" ? globalThis : null,
  };
}

function defaultWebSocket(): TransportClass {
  if (typeof globalThis.WebSocket === "function") return globalThis.WebSocket;
  throw new TypeError("TidegateSocket: there is no global WebSocket here; pass one as { WebSocket }");
}

/** `ms` on the wire is whole and not negative; for ever is the longest that the hub can read. */
function wholeMs(ms: number): number {
  return Number.isNaN(ms) ? 0 : Math.min(Math.max(0, Math.ceil(ms)), Number.MAX_SAFE_INTEGER);
}

function report(error: unknown): void {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
}
