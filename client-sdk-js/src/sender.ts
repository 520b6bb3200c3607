/** What `send` takes, made into payloads that do not change, in the order of the calls. */
import { copyOf, isArrayBuffer, isBlob, isShared, readBlob } from "./bytes.js";
import { wellFormed } from "./close.js";
import type { DomBlob } from "./dom.js";
import { type Payload, sizeOf } from "./outbox.js";

/** What `send` takes. */
export type Sendable = string | ArrayBuffer | ArrayBufferView | DomBlob;

/** A message that was sent: bytes are copies, a Blob is one that was not read yet. */
export type Sent = Payload | DomBlob;

/**
 * Takes a copy of what the application gave, for it may change its buffer after the call.
 *
 * @param data - anything that `WebSocket.send` takes; what is neither bytes nor Blob is made a string
 * @throws TypeError for shared memory, and for what has no string
 */
export function capture(data: unknown): Sent {
  if (typeof data === "string") return wellFormed(data);
  if (isShared(data) || (ArrayBuffer.isView(data) && isShared(data.buffer))) {
    throw new TypeError("The bytes to send must not be shared memory.");
  }
  if (ArrayBuffer.isView(data)) return copyOf(data);
  if (isArrayBuffer(data)) return data.byteLength === 0 ? new ArrayBuffer(0) : copyOf(new Uint8Array(data));
  if (isBlob(data)) return data;
  // A template, not String(): it refuses a Symbol, as a browser does.
  return wellFormed(`${data as string}`);
}

/**
 * The size of a message, in bytes.
 *
 * @param data - what {@link capture} returned
 */
export function bytesOf(data: Sent): number {
  return isBlob(data) ? data.size : sizeOf(data);
}

/** Reads Blobs, one at a time; whatever was sent after one waits behind it. */
export class Sender {
  readonly #hand: (payload: Payload) => void;
  readonly #idle: () => void;
  readonly #fail: () => void;
  #waiting: Sent[] = [];
  #bytes = 0;

  /**
   * @param hand - takes each payload, in order
   * @param idle - called when nothing waits any more
   * @param fail - called when a Blob cannot be read
   */
  constructor(hand: (payload: Payload) => void, idle: () => void, fail: () => void) {
    this.#hand = hand;
    this.#idle = idle;
    this.#fail = fail;
  }

  /** Bytes that wait for a Blob to be read. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether nothing waits. */
  get isIdle(): boolean {
    return this.#waiting.length === 0;
  }

  /**
   * Hands it on at once, or queues it. The caller has checked the limit.
   *
   * @param data - what {@link capture} returned
   */
  push(data: Sent): void {
    if (this.isIdle && !isBlob(data)) return this.#hand(data);
    this.#waiting.push(data);
    this.#bytes += bytesOf(data);
    if (this.#waiting.length === 1) void this.#read(this.#waiting);
  }

  /** Hands everything out that waits, and forgets it. */
  takeAll(): Sent[] {
    const all = this.#waiting;
    // A read under way sees that its queue is not the queue any more.
    this.#waiting = [];
    this.#bytes = 0;
    return all;
  }

  async #read(queue: Sent[]): Promise<void> {
    for (let data = queue[0]; data !== undefined; data = queue[0]) {
      let payload: Payload;
      try {
        payload = isBlob(data) ? copyOf(new Uint8Array(await readBlob(data))) : data;
      } catch {
        if (queue === this.#waiting) this.#fail();
        return;
      }
      if (queue !== this.#waiting) return;
      queue.shift();
      this.#bytes -= bytesOf(data);
      this.#hand(payload);
    }
    this.#idle();
  }
}
