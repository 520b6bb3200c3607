/**
 * The wire vocabulary, and the border between frames and app messages. A frame is a text message
 * whose first character is U+0001, followed by one JSON object with a `type`; an app text that
 * itself begins with U+0001 travels with one more in front.
 */
import { utf8Length, wellFormed } from "./close.js";

/** The first character of every frame, and of an escaped app text. */
export const MARK = "\u0001";

/** The WebSocket subprotocol. */
export const SUBPROTOCOL = "tidegate.v1";

/** The longest frame that either side accepts, in bytes. */
export const FRAME_BYTES_MAX = 64 * 1024;

/** Whether the client still has a working connection for the session that it asks for. */
export type Old = "open" | "lost";

/** The client's first frame on each connection. Without `token` it asks for a new session. */
export interface Hello {
  readonly type: "hello";
  readonly token?: string;
  readonly try?: number;
  readonly old?: Old;
  readonly received?: number;
  readonly epoch?: number;
  readonly protocols?: readonly string[];
  readonly auth?: string;
  readonly language?: string;
}

/** What a client says. */
export type ClientFrame =
  | Hello
  | { readonly type: "ack"; readonly received: number }
  | { readonly type: "ping" }
  | { readonly type: "pong" }
  | { readonly type: "ready"; readonly drain: string }
  | { readonly type: "busy"; readonly drain: string; readonly ms: number; readonly why?: string }
  | { readonly type: "auth"; readonly auth: string }
  | { readonly type: "bye"; readonly code?: number; readonly reason?: string };

/** The hub serves the session on this connection. */
export interface Welcome {
  readonly type: "welcome";
  readonly session: string;
  readonly token: string;
  readonly epoch: number;
  readonly generation: number;
  readonly resumed: boolean;
  readonly from: number;
  readonly received: number;
  readonly heartbeat_ms: number;
  readonly hub: string;
  readonly protocol?: string;
  /** When the session's JWT expires, in milliseconds from receipt. */
  readonly auth_expires_ms?: number;
  readonly limits: { readonly message_bytes: number };
}

/** The service is pausing. */
export interface NoticeFrame {
  readonly type: "notice";
  readonly drain: string;
  readonly seq: number;
  readonly reason: string;
  readonly text: string;
  readonly language: string;
  readonly deadline_ms: number;
  readonly slot_ms: number;
}

/** Open a second connection now. */
export interface MoveFrame {
  readonly type: "move";
  readonly drain: string;
  readonly seq: number;
  readonly token: string;
  readonly url?: string;
}

/** What a hub says. */
export type HubFrame =
  | Welcome
  | NoticeFrame
  | MoveFrame
  | { readonly type: "retry"; readonly after_ms: number; readonly why: string }
  | { readonly type: "reset"; readonly why: string; readonly replaces: string }
  | { readonly type: "ack"; readonly received: number }
  | { readonly type: "ping" }
  | { readonly type: "pong" }
  | { readonly type: "gap"; readonly from: number; readonly to: number; readonly why: string }
  | { readonly type: "recall"; readonly drain: string; readonly seq: number }
  | { readonly type: "bye"; readonly code: number; readonly reason: string };

/** A frame that was read, or the fault that goes into the close reason. */
export type Parsed = { readonly ok: true; readonly frame: HubFrame } | { readonly ok: false; readonly fault: string };

/** A text message, sorted: an app text as the app wrote it, or the JSON of a frame without its mark. */
export type Sorted = { readonly kind: "app"; readonly text: string } | { readonly kind: "frame"; readonly json: string };

type Kind = "string" | "number" | "boolean" | "limits" | "string?" | "number?";

const DRAIN_ORDER = { drain: "string", seq: "number" } as const;

const FIELDS: Readonly<Record<HubFrame["type"], Readonly<Record<string, Kind>>>> = {
  welcome: {
    session: "string",
    token: "string",
    epoch: "number",
    generation: "number",
    resumed: "boolean",
    from: "number",
    received: "number",
    heartbeat_ms: "number",
    hub: "string",
    protocol: "string?",
    auth_expires_ms: "number?",
    limits: "limits",
  },
  retry: { after_ms: "number", why: "string" },
  reset: { why: "string", replaces: "string" },
  ack: { received: "number" },
  ping: {},
  pong: {},
  gap: { from: "number", to: "number", why: "string" },
  notice: {
    ...DRAIN_ORDER,
    reason: "string",
    text: "string",
    language: "string",
    deadline_ms: "number",
    slot_ms: "number",
  },
  move: { ...DRAIN_ORDER, token: "string", url: "string?" },
  recall: DRAIN_ORDER,
  bye: { code: "number", reason: "string" },
};

/**
 * Sorts a text message into frame and app message, and takes the escape off.
 *
 * @param text - the message as it came
 */
export function sort(text: string): Sorted {
  if (!text.startsWith(MARK)) return { kind: "app", text };
  const rest = text.slice(1);
  return rest.startsWith(MARK) ? { kind: "app", text: rest } : { kind: "frame", json: rest };
}

/**
 * An app text as it travels: with one more mark if it begins with one.
 *
 * @param text - the app's own text
 */
export function escape(text: string): string {
  return text.startsWith(MARK) ? MARK + text : text;
}

/**
 * The text message that carries this frame. A lone surrogate, which no UTF-8 can carry and strict
 * JSON readers refuse, becomes the replacement character, as in a browser's own messages.
 *
 * @param frame - what to say
 */
export function encode(frame: ClientFrame): string {
  return MARK + JSON.stringify(frame, (_, value: unknown) => (typeof value === "string" ? wellFormed(value) : value));
}

/**
 * Reads the JSON of a hub's frame, without its mark. Unknown fields are ignored and left out.
 *
 * @param json - what stood behind the mark
 */
export function parse(json: string): Parsed {
  if (json.length > FRAME_BYTES_MAX / 3 && utf8Length(json) > FRAME_BYTES_MAX) {
    return fault(`frame of ${utf8Length(json)} bytes; at most ${FRAME_BYTES_MAX}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return fault("a frame must be one JSON object");
  }
  return check(value);
}

function check(value: unknown): Parsed {
  if (!isRecord(value)) return fault("a frame must be one JSON object");
  const type = value["type"];
  if (typeof type !== "string") return fault("a frame must have a `type`, a string");
  if (!isType(type)) return fault(`unknown frame type ${JSON.stringify(type)}`);
  const frame: Record<string, unknown> = { type };
  for (const [name, kind] of Object.entries(FIELDS[type])) {
    const field = value[name];
    const optional = kind === "string?" || kind === "number?";
    if (optional && (field === undefined || field === null)) continue;
    if (field === undefined) return fault(`${type}.${name} is missing`);
    const wrong = wrongKind(kind, field);
    if (wrong !== null) return fault(`${type}.${name} must be ${wrong}`);
    frame[name] = field;
  }
  return { ok: true, frame: frame as unknown as HubFrame };
}

/** Says what the field should have been, or null if it is that. */
function wrongKind(kind: Kind, field: unknown): string | null {
  switch (kind) {
    case "string":
    case "string?":
      return typeof field === "string" ? null : "a string";
    case "boolean":
      return typeof field === "boolean" ? null : "true or false";
    case "number":
    case "number?":
      return isCount(field) ? null : "a whole number from 0 to 2^53-1";
    case "limits":
      return isRecord(field) && isCount(field["message_bytes"]) ? null : "an object with a whole `message_bytes`";
  }
}

function isType(type: string): type is HubFrame["type"] {
  return Object.hasOwn(FIELDS, type);
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function fault(text: string): Parsed {
  return { ok: false, fault: text };
}
