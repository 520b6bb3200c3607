/**
 * The life of one `TidegateSocket` as values: the state, what can happen to it, and what it asks for.
 * Nothing here does anything; `machine.ts` decides, `socket.ts` carries out.
 */
import type { ClientFrame, Hello, HubFrame, Old } from "./frames.js";
import type { Payload } from "./outbox.js";

/** A message from the hub's side: text, or bytes. */
export type Incoming = string | ArrayBuffer;

/** What stays the same for the whole life of a socket. */
export interface Rules {
  /** The URL that the application gave, normalised; empty while a function that gives it has not answered yet. */
  readonly home: string;
  /** The application's subprotocols, for `hello`. */
  readonly protocols: readonly string[];
  /** The language for notices, as BCP 47; empty: the hub's choice. */
  readonly language: string;
  /** How long the first connect may take, in milliseconds. */
  readonly connectTimeoutMs: number;
  /** The longest heartbeat, in milliseconds, whatever the hub says. */
  readonly heartbeatMaxMs: number;
  /** Host names that a `move` may lead to besides the home URL's own; "any": all. */
  readonly allowHosts: readonly string[] | "any";
  /** Whether the application can be asked for another JWT. */
  readonly renewable: boolean;
}

/** What a step may look at beside state and input. */
export interface Moment {
  /** Milliseconds of a clock that never goes back. */
  readonly now: number;
  /** A number in [0, 1). */
  readonly random: number;
  /** The number of the next connection; used up by a `dial`. */
  readonly conn: number;
  /** See {@link Rules}. */
  readonly rules: Rules;
}

/**
 * Where a connection leads: the URL of a `move`, as the hub wrote it, or the application's own (null).
 * The driver makes an address of it, with the application's newest path and query.
 */
export type Place = string | null;

/** What outlives connections. Counts are of app messages in the current epoch. */
export interface Session {
  readonly id: string;
  readonly token: string;
  readonly epoch: number;
  readonly generation: number;
  readonly hub: string;
  readonly protocol: string;
  /** The largest message that the hub takes, in bytes. */
  readonly messageBytes: number;
  /** Where to look for it first: where it was welcomed last, or where the last `move` leads. */
  readonly at: Place;
  /** Origins that this page may not connect to, as it turned out; hubs there are passed over. */
  readonly barred: readonly string[];
  /** The `try` of the last hello; raised by each and never lowered. */
  readonly tries: number;
  /** How many messages were delivered to the application. */
  readonly received: number;
  /** How many of these the hub was told about. */
  readonly told: number;
  /** When it must be told at the latest; null: nothing to tell. */
  readonly tellAt: number | null;
  /** How many messages the application sent. */
  readonly queued: number;
  /** How many of these were handed to any connection. */
  readonly sent: number;
  /** How many of these were acked: only an `ack` says so, a welcome does not. The outbox begins behind them. */
  readonly acked: number;
  /** How many `retry` in a row the place that is asked now has answered; below three. */
  readonly retries: number;
  /** The last drain frame obeyed; a frame of the same drain must be above it. */
  readonly heard: { readonly drain: string; readonly seq: number } | null;
}

/** A welcomed connection. */
export interface Line {
  readonly conn: number;
  /** The offset of the last app message that came on it. */
  readonly position: number;
  readonly heartbeatMs: number;
  /** When to ask whether the hub is still there. */
  readonly askAt: number;
  /** How often that was asked without hearing anything. */
  readonly asked: number;
  /** Up to which of the application's messages an ack was asked for, because the application waits. */
  readonly ackAsked: number;
  /** When it was welcomed, and the count of failures before that. */
  readonly since: number;
  readonly failures: number;
  /** The session's `tries` at its welcome: any later hello may displace it. */
  readonly tries: number;
  /** The drain that its hub gave notice of. */
  readonly leaving: string | null;
}

/** A connection that is not welcomed yet. */
export interface Attempt {
  readonly conn: number;
  readonly to: Place;
  readonly giveUpAt: number;
  readonly failures: number;
  /** Whether a newer `move` has named another place since its hello; that one is asked next. */
  readonly overtaken: boolean;
  /** What its hello said of the old connection; null: no hello yet. */
  readonly said: Old | null;
  /** Whether the JWT was asked for again for this attempt. */
  readonly freshJwt: boolean;
  /** A `reset` that came; the new session's welcome is next. */
  readonly reset: { readonly why: string; readonly replaces: string } | null;
}

/** A move that is wanted: where to. */
export interface Order {
  readonly drain: string;
  readonly to: Place;
}

/** What a socket without a line is after. */
export type Aim =
  /** The first session; the application still sees CONNECTING. */
  | { readonly kind: "first"; readonly giveUpAt: number }
  /** The same session. */
  | { readonly kind: "resume"; readonly session: Session; readonly lostAt: number }
  /** A new session in place of one whose token is of no use; the application learns it by `reset`. */
  | { readonly kind: "anew"; readonly session: Session; readonly why: string };

/**
 * ```text
 *   new ──▶ connecting ◀─────── until ──────── waiting
 *             │ ▲   └── retry, close, no answer ──▲ ▲
 *      welcome│ │                                 │ │
 *             │ └─────── old lost ──────────┐     │ │
 *             ▼                             │     │ │
 *   ┌──────▶ open ◀─ welcome on the second, │     │ │   notice and recall leave it open,
 *   │         │      or a final answer ──┐  │     │ │   and at work
 *   │         │ move                     │  │     │ │
 *   │         ├──────────────────────▶ moving     │ │   the old line works on until
 *   │         │                          │ ▲      │ │   `welcome` comes on the second
 *   │ recall  │         retry, close on  │ │until,│ │
 *   │         │         the second       ▼ │ move │ │
 *   └─────────┼─────────────────────── deferred   │ │
 *             │                          └─old lost │
 *             └────────── connection lost ──────────┘
 *
 *   any, close()                ──▶ closing   the inner state goes on until `bye` is out
 *   any, final code, bye, fault ──▶ closed
 * ```
 *
 * `open`, `moving` and `deferred` have a line that works both ways; `waiting` and `connecting` have
 * none, and what the application sends is kept in the outbox.
 */
export type State =
  | { readonly name: "connecting"; readonly aim: Aim; readonly attempt: Attempt }
  | {
      readonly name: "waiting";
      readonly aim: Aim;
      /** Where the next attempt goes. */
      readonly to: Place;
      readonly until: number;
      readonly failures: number;
      readonly freshJwt: boolean;
    }
  | { readonly name: "open"; readonly session: Session; readonly line: Line }
  | {
      readonly name: "moving";
      readonly session: Session;
      readonly line: Line;
      readonly attempt: Attempt;
      /** Null: recalled, but its hello is under way and ends by its own answer. */
      readonly order: Order | null;
    }
  | {
      readonly name: "deferred";
      readonly session: Session;
      readonly line: Line;
      readonly order: Order;
      /** Where the next attempt goes. */
      readonly to: Place;
      readonly until: number;
      readonly failures: number;
      readonly freshJwt: boolean;
    }
  | {
      readonly name: "closing";
      readonly inner: Unclosed;
      readonly bye: Bye;
      readonly giveUpAt: number;
      /** `flushing`: Blobs are still being read; `leaving`: `bye` goes out on every line there is. */
      readonly stage: "flushing" | "leaving";
    }
  | { readonly name: "closed"; readonly protocol: string };

/** The states that `closing` can hold. */
export type Unclosed = Exclude<State, { name: "closing" } | { name: "closed" }>;

/** The states with a line. */
export type Served = Extract<State, { line: Line }>;

/** The states with a connection that is not welcomed yet. */
export type Asking = Extract<State, { attempt: Attempt }>;

/** The code and reason that `close()` was given. */
export interface Bye {
  readonly code?: number;
  readonly reason?: string;
}

/** What can happen. Inputs that name a connection which the state does not know are late, and ignored. */
export type Input =
  | { readonly type: "opened"; readonly conn: number }
  | { readonly type: "frame"; readonly conn: number; readonly frame: HubFrame }
  | { readonly type: "message"; readonly conn: number; readonly data: Incoming }
  | { readonly type: "fault"; readonly conn: number; readonly reason: string }
  | { readonly type: "closed"; readonly conn: number; readonly code: number; readonly reason: string }
  /** The browser would not open it: a policy of the page forbids the address, and will again. */
  | { readonly type: "barred"; readonly conn: number; readonly url: string; readonly reason: string }
  | { readonly type: "send"; readonly payload: Payload }
  | { readonly type: "close"; readonly bye: Bye; readonly flushed: boolean }
  | { readonly type: "flushed" }
  /** The socket itself cannot go on: a buffer is full, a Blob cannot be read. */
  | { readonly type: "fail"; readonly code: number; readonly reason: string }
  /** A `reset` was announced, and nobody called `preventDefault()`. */
  | { readonly type: "forsake"; readonly why: string }
  | { readonly type: "ready"; readonly drain: string | null }
  | { readonly type: "busy"; readonly drain: string | null; readonly ms: number; readonly why?: string }
  /** The application looks at `bufferedAmount`: it waits for what it sent to be taken. */
  | { readonly type: "waits" }
  | { readonly type: "online" }
  | { readonly type: "tick" };

/** What the application is told. */
export type Happening =
  | { readonly type: "open" }
  | {
      readonly type: "close";
      readonly code: number;
      readonly reason: string;
      readonly wasClean: boolean;
      /** Whether an `error` goes before it. */
      readonly failed: boolean;
    }
  | {
      readonly type: "notice";
      readonly drain: string;
      readonly reason: string;
      readonly text: string;
      readonly language: string;
      readonly deadlineMs: number;
      readonly slotMs: number;
    }
  | { readonly type: "recalled"; readonly drain: string }
  | { readonly type: "moved"; readonly session: string; readonly hub: string }
  | { readonly type: "reconnecting"; readonly code: number; readonly reason: string; readonly afterMs: number }
  | { readonly type: "resumed"; readonly session: string; readonly hub: string; readonly downMs: number }
  | { readonly type: "barred"; readonly url: string; readonly reason: string }
  | { readonly type: "gap"; readonly from: number; readonly to: number; readonly why: string }
  | { readonly type: "reset"; readonly session: string; readonly replaces: string; readonly why: string };

/** What a step asks for, in order. */
export type Effect =
  | { readonly do: "dial"; readonly conn: number; readonly to: Place; readonly freshJwt: boolean }
  /** As `say`; the socket adds the JWT. */
  | { readonly do: "hello"; readonly conn: number; readonly hello: Hello }
  | { readonly do: "say"; readonly conn: number; readonly frame: ClientFrame }
  | { readonly do: "transmit"; readonly conn: number; readonly payload: Payload }
  /** Resend the outbox, but for so many of its oldest messages: the hub has counted these, and not acked them yet. */
  | { readonly do: "replay"; readonly conn: number; readonly skip: number }
  /** Take so many messages off the outbox: they were acked. */
  | { readonly do: "release"; readonly count: number }
  | { readonly do: "deliver"; readonly data: Incoming }
  /** Close, and go deaf on it in this moment. Without a code only the connection is gone. */
  | { readonly do: "drop"; readonly conn: number; readonly code?: number; readonly reason?: string }
  /** Close with 1000, and wait for the other side's close. */
  | { readonly do: "part"; readonly conn: number }
  | { readonly do: "tell"; readonly event: Happening };

/** What `step` returns. */
export type Step = readonly [State, readonly Effect[]];

/**
 * `WebSocket.readyState` for a state: a socket that has been open stays OPEN until it closes.
 *
 * @param state - any state
 */
export function readyState(state: State): 0 | 1 | 2 | 3 {
  switch (state.name) {
    case "connecting":
    case "waiting":
      return state.aim.kind === "first" ? 0 : 1;
    case "open":
    case "moving":
    case "deferred":
      return 1;
    case "closing":
      return 2;
    case "closed":
      return 3;
  }
}

/**
 * The session that a state is about, or null before the first welcome and after the close.
 *
 * @param state - any state
 */
export function sessionOf(state: State): Session | null {
  switch (state.name) {
    case "connecting":
    case "waiting":
      return state.aim.kind === "first" ? null : state.aim.session;
    case "open":
    case "moving":
    case "deferred":
      return state.session;
    case "closing":
      return sessionOf(state.inner);
    case "closed":
      return null;
  }
}

/**
 * When the machine wants a `tick`, in the clock's milliseconds; null: not before something happens.
 *
 * @param state - any state
 */
export function wakeAt(state: State): number | null {
  switch (state.name) {
    case "connecting":
      return Math.min(state.attempt.giveUpAt, aimEnd(state.aim));
    case "waiting":
      return Math.min(state.until, aimEnd(state.aim));
    case "open":
      return finite(lineWake(state));
    case "moving":
      return Math.min(lineWake(state), state.attempt.giveUpAt);
    case "deferred":
      return Math.min(lineWake(state), state.until);
    case "closing":
      return Math.min(state.giveUpAt, wakeAt(state.inner) ?? Infinity);
    case "closed":
      return null;
  }
}

function aimEnd(aim: Aim): number {
  return aim.kind === "first" ? aim.giveUpAt : Infinity;
}

function lineWake(state: Served): number {
  return Math.min(state.line.askAt, state.session.tellAt ?? Infinity);
}

function finite(at: number): number | null {
  return Number.isFinite(at) ? at : null;
}
