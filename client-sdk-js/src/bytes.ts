/**
 * What is what, whatever realm it comes from: an iframe's bytes, or those of a test runner that has globals of its
 * own (jsdom), are no `instanceof` of ours. What has the internal slot answers its getter; everything else throws.
 */

import type { DomBlob } from "./dom.js";

type Getter = (this: unknown) => unknown;

function getterOf(prototype: object, name: string): Getter {
  const getter = Object.getOwnPropertyDescriptor(prototype, name)?.get;
  if (getter === undefined) throw new TypeError(`there is no ${name} here`);
  return getter;
}

const byteLength = getterOf(ArrayBuffer.prototype, "byteLength");
/** Pages that are not isolated have no such class, and yet memory of that kind can reach them. */
const sharedByteLength =
  typeof SharedArrayBuffer === "undefined" ? null : getterOf(SharedArrayBuffer.prototype, "byteLength");

function answers(getter: Getter | null, value: unknown): boolean {
  if (getter === null || typeof value !== "object" || value === null) return false;
  try {
    getter.call(value);
    return true;
  } catch {
    return false;
  }
}

/**
 * Whether this is an ArrayBuffer of any realm.
 *
 * @param value - anything
 */
export function isArrayBuffer(value: unknown): value is ArrayBuffer {
  return answers(byteLength, value);
}

/**
 * Whether this is memory that others may write to meanwhile; a browser takes none of it.
 *
 * @param value - anything
 */
export function isShared(value: unknown): boolean {
  return answers(sharedByteLength, value) || tagOf(value) === "[object SharedArrayBuffer]";
}

/**
 * Whether this is a Blob or a File, of any realm or of a stand-in such as jsdom's.
 *
 * @param value - anything
 */
export function isBlob(value: unknown): value is DomBlob {
  if (typeof Blob !== "undefined" && value instanceof Blob) return true;
  const tag = tagOf(value);
  return (tag === "[object Blob]" || tag === "[object File]") && typeof (value as Blob).size === "number";
}

/**
 * The bytes of what a WebSocket class gave, or null: an ArrayBuffer as it is, a view's part of its buffer.
 *
 * @param value - anything
 */
export function bytesIn(value: unknown): ArrayBuffer | null {
  if (isArrayBuffer(value)) return value;
  return ArrayBuffer.isView(value) ? copyOf(value) : null;
}

/**
 * The bytes that a view shows, in a buffer of their own.
 *
 * @param view - of any kind and realm
 */
export function copyOf(view: ArrayBufferView): ArrayBuffer {
  const copy = new Uint8Array(view.byteLength);
  // One that was handed to somebody else (transferred) shows nothing, and must not be touched.
  if (view.byteLength > 0) copy.set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
  return copy.buffer;
}

/**
 * Reads a Blob. Some stand-ins have no `arrayBuffer()`, only a FileReader beside them.
 *
 * @param blob - see {@link isBlob}
 */
export async function readBlob(blob: DomBlob): Promise<ArrayBuffer> {
  if (typeof blob.arrayBuffer === "function") return blob.arrayBuffer();
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as ArrayBuffer);
    reader.onerror = () => reject(reader.error);
    reader.readAsArrayBuffer(blob as Blob);
  });
}

function tagOf(value: unknown): string {
  return typeof value === "object" && value !== null ? Object.prototype.toString.call(value) : "";
}
