/** What an application may choose, and what a test may replace. */
import type { DomEventTarget } from "./dom.js";
import type { NoticeDetail } from "./events.js";
import type { TransportClass } from "./transport.js";

/** The application's answer to a notice: may be moved now, please not yet, or none. */
export type Readiness = true | "ready" | { readonly busy: number; readonly why?: string } | false | null | undefined;

/** The third argument of `new TidegateSocket(url, protocols, options)`. */
export interface TidegateOptions {
  /**
   * The JWT for a hub that asks for one, or a function that gives it. The function is asked for each
   * new session, and again when the hub says that the JWT has expired or is refused. What it throws is reported
   * (`reportError`, or the console), fails a first connect, and is the reason of a `reconnecting`.
   */
  readonly token?: string | (() => string | Promise<string>);
  /**
   * The WebSocket class underneath; Node 20 needs one.
   * @default the global one, as it was when this package was loaded
   */
  readonly WebSocket?: TransportClass;
  /**
   * How many bytes may wait for an ack.
   * @default 16777216
   */
  readonly maxBuffered?: number;
  /**
   * What `send` does above `maxBuffered`, or above the hub's message limit: fire `error` and `close`,
   * as a browser does, or throw a `QuotaExceededError` and leave the socket as it is.
   * @default "close"
   */
  readonly overflow?: "close" | "throw";
  /**
   * How long the first connect may take, in milliseconds, before `error` and `close`.
   * @default 20000
   */
  readonly connectTimeout?: number;
  /** Asked at each notice: `true` or `"ready"`, `{ busy: ms, why }`, or nothing to leave it open. */
  readonly readiness?: (notice: NoticeDetail) => Readiness | Promise<Readiness>;
  /**
   * Host names that a hub may send this client to, besides the URL's own; `"any"`: all.
   * @default []
   */
  readonly allowHosts?: readonly string[] | "any";
  /**
   * The language for notices, as BCP 47.
   * @default navigator.language
   */
  readonly language?: string;
  /**
   * The longest silence before the hub is asked whether it is there, in milliseconds. A hub may ask for a shorter one.
   * @default the hub's
   */
  readonly heartbeat?: number;
  /** Clock, timers and chance; for tests. */
  readonly environment?: Partial<Environment>;
}

/** The world outside, as far as the socket touches it. */
export interface Environment {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** A number in [0, 1). */
  random(): number;
  /** Calls back once after so many milliseconds; returns a handle. */
  setTimeout(callback: () => void, ms: number): unknown;
  /** Takes a handle back. */
  clearTimeout(handle: unknown): void;
  /** Fires `online` when the network is back. */
  readonly network: Pick<DomEventTarget, "addEventListener" | "removeEventListener"> | null;
}

/**
 * Fails early on an option that makes no sense.
 *
 * @param options - as the application gave them
 * @throws RangeError naming the option, its value, and what would be right
 */
export function checkOptions(options: TidegateOptions): void {
  for (const name of ["maxBuffered", "connectTimeout", "heartbeat"] as const) {
    const value = options[name];
    if (value !== undefined && !(typeof value === "number" && value > 0)) {
      throw new RangeError(`TidegateSocket: ${name} is ${String(value)}; it must be a number above 0`);
    }
  }
  if (options.overflow !== undefined && options.overflow !== "close" && options.overflow !== "throw") {
    throw new RangeError(`TidegateSocket: overflow is ${String(options.overflow)}; it must be "close" or "throw"`);
  }
}
