/** What comes on the connection that serves the session, and what its silence means. */
import { CLOSE } from "./close.js";
import type { HubFrame, NoticeFrame } from "./frames.js";
import type { Effect, Incoming, Moment, Served, Session, State, Step } from "./state.js";

/** The hub is told what was received after this many messages at the latest. */
export const TELL_COUNT = 32;

/** The hub is told what was received after this many milliseconds at the latest. */
export const TELL_MS = 250;

/** How often an unanswered question is asked before the next silence means "lost". */
const ASK_MAX = 2;

/** After a change of network the hub must answer within this many milliseconds. */
export const PROBE_MS = 5_000;

/** A line that goes on, one that broke the protocol, or one that the hub ends. */
export type Heard =
  | { readonly kind: "step"; readonly step: Step }
  | { readonly kind: "fault"; readonly fault: string }
  | { readonly kind: "bye"; readonly code: number; readonly reason: string };

/** The frames that a line handles by itself; `move` and `recall` are the machine's. */
export type LineFrame = Exclude<HubFrame, { type: "welcome" | "retry" | "reset" | "move" | "recall" }>;

/**
 * Takes a frame.
 *
 * @param state - a state with a line; it has {@link heard} this frame already
 * @param frame - what came on the line
 * @param at - the moment
 */
export function lineFrame(state: Served, frame: LineFrame, at: Moment): Heard {
  switch (frame.type) {
    case "ack":
      return acked(state, frame.received);
    case "ping":
      return step(state, [{ do: "say", conn: state.line.conn, frame: { type: "pong" } }]);
    case "pong":
      return step(state, []);
    case "gap":
      return gap(state, frame, at);
    case "notice":
      return notice(state, frame);
    case "bye":
      return { kind: "bye", code: frame.code, reason: frame.reason };
  }
}

/**
 * Takes an app message: delivered if it is the next one, dropped if it came before.
 *
 * @param state - a state with a line
 * @param data - the message
 * @param at - the moment
 */
export function lineMessage(state: Served, data: Incoming, at: Moment): Step {
  const position = state.line.position + 1;
  const line = { ...state.line, position };
  // `welcome.from` is never above `received`, and both rise together: higher than the next is impossible.
  if (position <= state.session.received) return [{ ...state, line }, []];
  const session = { ...state.session, received: position, tellAt: state.session.tellAt ?? at.now + TELL_MS };
  const [next, effects] = tellIfDue({ ...state, line, session }, at);
  return [next, [{ do: "deliver", data }, ...effects]];
}

/**
 * Any sign of life puts the question off.
 *
 * @param state - a state with a line
 * @param at - the moment
 */
export function heard<S extends Served>(state: S, at: Moment): S {
  return { ...state, line: { ...state.line, asked: 0, askAt: at.now + state.line.heartbeatMs } };
}

/**
 * What time asks of a line: an ack, a question, or, with null, that it counts as lost.
 *
 * @param state - a state with a line
 * @param at - the moment
 */
export function lineTick(state: Served, at: Moment): Step | null {
  const [told, effects] = tellIfDue(state, at);
  const { line } = told;
  if (at.now < line.askAt) return [told, effects];
  if (line.asked >= ASK_MAX) return null;
  const asked = { ...line, asked: line.asked + 1, askAt: at.now + line.heartbeatMs };
  return [{ ...told, line: asked }, [...effects, { do: "say", conn: line.conn, frame: { type: "ping" } }]];
}

/**
 * Asks at once whether the hub is still there, because the network changed.
 *
 * @param state - a state with a line
 * @param at - the moment
 */
export function probe(state: Served, at: Moment): Step {
  const wait = Math.min(PROBE_MS, state.line.heartbeatMs);
  const line = { ...state.line, asked: ASK_MAX, askAt: at.now + wait };
  return [{ ...state, line }, [{ do: "say", conn: line.conn, frame: { type: "ping" } }]];
}

/**
 * Whether a drain frame is news: another drain, or above the last one obeyed.
 *
 * @param session - who remembers
 * @param frame - the drain's name and count
 */
export function isNews(session: Session, frame: { readonly drain: string; readonly seq: number }): boolean {
  return session.heard === null || session.heard.drain !== frame.drain || frame.seq > session.heard.seq;
}

/** The close code for a line that fell silent. */
export const SILENT = { code: CLOSE.heartbeat, reason: "nothing heard for three heartbeats" } as const;

function acked(state: Served, received: number): Heard {
  const { session } = state;
  if (received > session.sent) return fault(`ack of ${received}, but only ${session.sent} messages were sent`);
  if (received <= session.acked) return step(state, []);
  return step({ ...state, session: { ...session, acked: received } }, [
    { do: "release", count: received - session.acked },
  ]);
}

function gap(state: Served, frame: { from: number; to: number; why: string }, at: Moment): Heard {
  const { line, session } = state;
  if (frame.from !== line.position || frame.to < frame.from) {
    return fault(`a gap from ${frame.from} to ${frame.to} at position ${line.position}`);
  }
  const moved = { ...line, position: frame.to };
  const told = (from: number): Effect => ({ do: "tell", event: { type: "gap", from, to: frame.to, why: frame.why } });
  if (frame.to <= session.received) {
    // One that begins where it ends counts nothing: the hub does not know what is missing, only that something may be.
    return step({ ...state, line: moved }, frame.from === frame.to ? [told(frame.to)] : []);
  }
  const next = { ...session, received: frame.to, tellAt: session.tellAt ?? at.now + TELL_MS };
  return step({ ...state, line: moved, session: next }, [told(session.received)]);
}

function notice(state: Served, frame: NoticeFrame): Heard {
  const line = { ...state.line, leaving: frame.drain };
  // Seen before, on a line that is gone: the application knows, but may answer it on this line too.
  if (!isNews(state.session, frame)) {
    return step(state.session.heard?.seq === frame.seq ? { ...state, line } : state, []);
  }
  const session = { ...state.session, heard: { drain: frame.drain, seq: frame.seq } };
  return step({ ...state, line, session }, [
    {
      do: "tell",
      event: {
        type: "notice",
        drain: frame.drain,
        reason: frame.reason,
        text: frame.text,
        language: frame.language,
        deadlineMs: frame.deadline_ms,
        slotMs: frame.slot_ms,
      },
    },
  ]);
}

/** Acks after 32 messages or 250 ms; a message that comes late does the work of a timer that is late. */
function tellIfDue(state: Served, at: Moment): readonly [Served, readonly Effect[]] {
  const { session, line } = state;
  if (session.tellAt === null) return [state, []];
  if (session.received - session.told < TELL_COUNT && at.now < session.tellAt) return [state, []];
  const told = { ...session, told: session.received, tellAt: null };
  return [
    { ...state, session: told },
    [{ do: "say", conn: line.conn, frame: { type: "ack", received: session.received } }],
  ];
}

function step(state: State, effects: readonly Effect[]): Heard {
  return { kind: "step", step: [state, effects] };
}

function fault(text: string): Heard {
  return { kind: "fault", fault: text };
}
