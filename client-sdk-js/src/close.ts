/** The close codes of `tidegate.v1` in one table, with "may come back?" as data. */

/** What a client does about a close. */
export type Verdict =
  /** Only the connection is gone: come back with the session's token. */
  | "return"
  /** The session is over for this client. */
  | "final"
  /** The token is of no use: ask for a new session, and tell the application that continuity is lost. */
  | "anew"
  /** Come back, if the application can give a newer JWT; otherwise final. */
  | "auth";

/** The codes that have a name. 4400 never travels: it is what the SDK reports when continuity was lost. */
export const CLOSE = {
  normal: 1000,
  noStatus: 1005,
  abnormal: 1006,
  tooBig: 1009,
  restart: 1012,
  later: 1013,
  heartbeat: 4000,
  slowConsumer: 4001,
  helloTimeout: 4002,
  reset: 4400,
  protocolError: 4500,
  badToken: 4510,
  tokenExpired: 4511,
  tokenReuse: 4512,
  displaced: 4513,
  authRequired: 4520,
  authFailed: 4521,
  authExpired: 4522,
  evicted: 4530,
  tooManyChannels: 4531,
} as const;

/** WebSocket allows this many bytes in a close reason. */
export const REASON_BYTES_MAX = 123;

/** Standard codes after which nobody should come back: ended, or broken in a way that would repeat itself. */
const FINAL_STANDARD: ReadonlySet<number> = new Set([1000, 1002, 1003, 1007, 1008, 1009]);

/**
 * Whether a client that sees this code may come back with its session.
 *
 * @param code - the code of the close event; 1005 and 1006 stand for "none"
 */
export function mayReturn(code: number): boolean {
  return !FINAL_STANDARD.has(code) && !(code >= 4500 && code <= 4999);
}

/**
 * What to do about a close with this code.
 *
 * @param code - the code of the close event
 */
export function verdict(code: number): Verdict {
  switch (code) {
    case CLOSE.badToken:
    case CLOSE.tokenExpired:
      return "anew";
    case CLOSE.authFailed:
    case CLOSE.authExpired:
      return "auth";
    default:
      return mayReturn(code) ? "return" : "final";
  }
}

/** A client waits no longer than this for its slot, in milliseconds. */
export const SLOT_MAX_MS = 60_000;

/**
 * When the client of a close should come back at the earliest, in milliseconds: a reason that ends in
 * `; after_ms=250` says so. Null: it says nothing of it, or nobody comes back after this code.
 *
 * @param code - the code of the close event
 * @param reason - its reason
 */
export function slotMs(code: number, reason: string): number | null {
  const digits = /; after_ms=([0-9]{1,9})$/.exec(reason)?.[1];
  return digits === undefined || !mayReturn(code) ? null : Math.min(Number(digits), SLOT_MAX_MS);
}

/**
 * Cuts a close reason to what WebSocket allows, at a character's border.
 *
 * @param text - the reason, of any length
 */
export function cutReason(text: string): string {
  let bytes = 0;
  let end = 0;
  for (const character of text) {
    bytes += utf8Length(character);
    if (bytes > REASON_BYTES_MAX) return text.slice(0, end);
    end += character.length;
  }
  return text;
}

/**
 * A text that UTF-8 can carry: what is half of a pair becomes the replacement character, as in a browser.
 *
 * @param text - any text
 */
export function wellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

/**
 * The length of a text in UTF-8, without encoding it.
 *
 * @param text - a lone surrogate counts as the replacement character that it becomes, three bytes
 */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) {
      bytes += 1;
    } else if (unit >= 0xd800 && unit < 0xdc00 && isLowSurrogate(text.charCodeAt(i + 1))) {
      bytes += 2;
      i += 1;
    } else {
      bytes += 2;
    }
  }
  return bytes;
}

function isLowSurrogate(unit: number): boolean {
  return unit >= 0xdc00 && unit < 0xe000;
}
