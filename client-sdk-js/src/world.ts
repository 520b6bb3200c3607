/** What the SDK takes of the world when nothing else is given: the clock, the browser's WebSocket, where to report. */
import type { Environment } from "./options.js";
import type { TransportClass } from "./transport.js";

/** Under this name a class that stands in for `WebSocket` tells what it stands for. */
export const NATIVE: unique symbol = Symbol.for("tidegate.native") as never;

/** A page may put `TidegateSocket` in the place of `WebSocket` later; underneath there must be what stood there first. */
const found = nativeOf(globalThis.WebSocket);

/**
 * The class behind a stand-in, a class that is none as it is, or undefined for what is no class.
 *
 * @param candidate - anything
 */
export function nativeOf(candidate: unknown): TransportClass | undefined {
  if (typeof candidate !== "function") return undefined;
  return NATIVE in candidate ? (candidate[NATIVE] as TransportClass | undefined) : (candidate as TransportClass);
}

/** The browser's own WebSocket, as it was when this module was loaded; undefined where there was none. */
export function nativeWebSocket(): TransportClass | undefined {
  return found ?? nativeOf(globalThis.WebSocket);
}

/**
 * The class underneath a socket.
 *
 * @param wanted - the option, if it was given
 * @throws TypeError where there is none
 */
export function transportClass(wanted: TransportClass | undefined): TransportClass {
  const create = wanted === undefined ? nativeWebSocket() : nativeOf(wanted);
  if (create !== undefined) return create;
  throw new TypeError("TidegateSocket: there is no global WebSocket here; pass one as { WebSocket }");
}

/** Clock, timers and chance of this place. */
export function defaultEnvironment(): Environment {
  return {
    now: () => performance.now(),
    random: () => Math.random(),
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (handle) => clearTimeout(handle as number),
    network: typeof globalThis.addEventListener === "function" ? globalThis : null,
  };
}

/**
 * Tells of an error that nobody can catch, as a browser tells of one in a listener.
 *
 * @param error - what was thrown
 */
export function report(error: unknown): void {
  if (typeof globalThis.reportError === "function") globalThis.reportError(error);
  else console.error(error);
}
