/** The application's own URL: given once, or by a function that is asked before each connection. */
import type { DomUrl } from "./dom.js";
import { BadAddress, normalise } from "./url.js";

/** What the constructor takes as its first argument. */
export type Address = string | DomUrl | (() => string | DomUrl | Promise<string | DomUrl>);

/** Keeps the newest answer, so that what a URL carries (a ticket, say) is fresh on each connection. */
export class Home {
  readonly #ask: (() => string | DomUrl | Promise<string | DomUrl>) | null;
  readonly #base: string | undefined;
  #current = "";
  /** The answer to the constructor's question; the first connection uses it. */
  #first: string | Promise<string> | null;

  /**
   * Asks for the first time.
   *
   * @param address - the URL, or the function that gives it
   * @param base - the page's address, if there is one
   * @throws BadAddress for what is no WebSocket URL, and whatever the function throws
   */
  constructor(address: Address, base: string | undefined) {
    this.#base = base;
    this.#ask = typeof address === "function" ? address : null;
    this.#first = this.#take(typeof address === "function" ? address() : address);
  }

  /** The newest answer, normalised; empty before the first. */
  get current(): string {
    return this.#current;
  }

  /** The URL for the next connection. Throws, or rejects, as the application's function does. */
  next(): string | Promise<string> {
    const first = this.#first;
    if (first !== null) {
      this.#first = null;
      return first;
    }
    return this.#ask === null ? this.#current : this.#take(this.#ask());
  }

  #take(answer: string | DomUrl | Promise<string | DomUrl>): string | Promise<string> {
    if (isPromise(answer)) return answer.then((url) => this.#keep(url));
    return this.#keep(answer);
  }

  #keep(url: string | DomUrl): string {
    this.#current = normalise(url, this.#base);
    return this.#current;
  }
}

function isPromise<T>(value: unknown): value is Promise<T> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/**
 * The same as a browser's constructor would throw.
 *
 * @param error - anything
 */
export function asThrown(error: unknown): unknown {
  return error instanceof BadAddress ? new DOMException(error.message, "SyntaxError") : error;
}
