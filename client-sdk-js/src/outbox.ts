/**
 * What the application sent and no hub has acked yet. It is what `bufferedAmount` counts, and what
 * goes back to the application when continuity is lost. A new connection resends what of it the hub
 * has not counted; the rest is kept too, for only an ack says that the app behind the hub has it.
 */
import { utf8Length } from "./close.js";

/** A message as it is kept: text as the app wrote it, bytes as a copy of their own. */
export type Payload = string | ArrayBuffer;

/** The default limit of unacked bytes: sixteen messages of the largest size that a hub takes by default. */
export const BUFFERED_BYTES_MAX = 16 * 1024 * 1024;

/**
 * The size of a message on the wire, in bytes, without WebSocket's own header.
 *
 * @param payload - text counts in UTF-8
 */
export function sizeOf(payload: Payload): number {
  return typeof payload === "string" ? utf8Length(payload) : payload.byteLength;
}

interface Entry {
  readonly payload: Payload;
  readonly bytes: number;
}

/** A queue in the order of offsets, bounded in bytes. */
export class Outbox {
  readonly #maxBytes: number;
  #entries: Entry[] = [];
  /** How many entries at the front are acked already; they are cut off now and then, not one by one. */
  #head = 0;
  #bytes = 0;

  /**
   * @param maxBytes - the most that may wait for an ack, in bytes
   */
  constructor(maxBytes: number = BUFFERED_BYTES_MAX) {
    this.#maxBytes = maxBytes;
  }

  /** Unacked bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Unacked messages. */
  get length(): number {
    return this.#entries.length - this.#head;
  }

  /**
   * Whether so many bytes more still fit.
   *
   * @param bytes - the size of the message to come
   */
  fits(bytes: number): boolean {
    return this.#bytes + bytes <= this.#maxBytes;
  }

  /**
   * Keeps a message until it is acked. The caller has asked {@link fits} before.
   *
   * @param payload - the message; bytes must not change any more
   */
  push(payload: Payload): void {
    const bytes = sizeOf(payload);
    this.#entries.push({ payload, bytes });
    this.#bytes += bytes;
  }

  /**
   * Forgets the oldest messages, because they were acked.
   *
   * @param count - how many; at most {@link length}
   */
  release(count: number): void {
    const end = Math.min(this.#head + count, this.#entries.length);
    for (; this.#head < end; this.#head += 1) {
      this.#bytes -= this.#entries[this.#head]?.bytes ?? 0;
    }
    // Cutting off only when half of the array is dead keeps a release at constant cost on average.
    if (this.#head * 2 >= this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  /**
   * The unacked messages, oldest first.
   *
   * @param skip - how many of the oldest to leave out; they stay in the outbox
   */
  unacked(skip = 0): Payload[] {
    return this.#entries.slice(this.#head + skip).map((entry) => entry.payload);
  }

  /** Hands every unacked message out and forgets it. */
  takeAll(): Payload[] {
    const all = this.unacked();
    this.#entries = [];
    this.#head = 0;
    this.#bytes = 0;
    return all;
  }
}
