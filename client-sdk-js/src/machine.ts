/**
 * The machine behind `TidegateSocket`: `step` takes what happened and says what is to be done. It
 * reads no clock, draws no random number and does no IO; the picture of its states is in `state.ts`.
 */
import { attemptBarred, attemptClosed, attemptFrame, attemptTick, dial, sayHello } from "./attempt.js";
import { FLOOR_MS, afterUptime, backoff } from "./backoff.js";
import { CLOSE, cutReason, slotMs, verdict } from "./close.js";
import { end, startClosing, stepClosing, type StepInner } from "./farewell.js";
import type { HubFrame } from "./frames.js";
import { SILENT, heard, lineFrame, lineMessage, lineTick, probe } from "./line.js";
import { ordered, recalled } from "./move.js";
import type { Aim, Asking, Effect, Input, Moment, Place, Served, State, Step, Unclosed } from "./state.js";

/** The code for the app behind the hub when this end cannot go on. */
const INTERNAL_ERROR = 1011;

/**
 * The first step of a socket: it dials.
 *
 * @param at - the moment of the constructor
 */
export function start(at: Moment): Step {
  const giveUpAt = at.now + at.rules.connectTimeoutMs;
  return connect({ kind: "first", giveUpAt }, null, 0, true, at);
}

/**
 * One step.
 *
 * @param state - where the socket is
 * @param input - what happened
 * @param at - the moment, and the next connection's number
 * @returns the next state, and what is to be done, in order
 */
export function step(state: State, input: Input, at: Moment): Step {
  if (state.name === "closed") return [state, []];
  if (state.name === "closing") return stepClosing(state, input, at, stepInner);
  return stepInner(state, input, at);
}

const stepInner: StepInner = (state: Unclosed, input: Input, at: Moment): Step => {
  switch (input.type) {
    case "opened":
      return isAsking(state, input.conn) && state.attempt.said === null ? sayHello(state, at) : [state, []];
    case "frame":
      return frame(state, input.conn, input.frame, at);
    case "message":
      if (isAsking(state, input.conn)) return fault(state, input.conn, "an app message came before welcome", at);
      return isServed(state, input.conn) ? lineMessage(heard(state, at), input.data, at) : [state, []];
    case "fault":
      return fault(state, input.conn, input.reason, at);
    case "closed":
      if (isAsking(state, input.conn)) return attemptClosed(state, input, at);
      return isServed(state, input.conn) ? lineLost(state, input, at) : [state, []];
    case "barred":
      return isAsking(state, input.conn) ? attemptBarred(state, input, at) : [state, []];
    case "waits":
      return waits(state);
    case "close":
      return startClosing(state, input, at);
    case "fail":
      return failed(state, input.code, input.reason);
    case "forsake":
      return forsake(state, input.why);
    case "online":
      return online(state, at);
    case "tick":
      return tick(state, at);
    case "flushed":
      return [state, []];
    default:
      return said(state, input);
  }
};

/** What the application says: a message, or an answer to a notice. */
function said(state: Unclosed, input: Input & { type: "send" | "ready" | "busy" }): Step {
  if (input.type === "send") return send(state, input.payload);
  if (!("line" in state)) return [state, []];
  const drain = state.line.leaving;
  if (drain === null || (input.drain !== null && input.drain !== drain)) return [state, []];
  if (input.type === "ready") {
    return [state, [{ do: "say", conn: state.line.conn, frame: { type: "ready", drain } }]];
  }
  const why = input.why === undefined ? {} : { why: cutReason(input.why) };
  return [state, [{ do: "say", conn: state.line.conn, frame: { type: "busy", drain, ms: input.ms, ...why } }]];
}

/**
 * The application waits for its messages to be taken, and an ack may take its time: a `ping` asks for it, once
 * for all that was sent so far.
 */
function waits(state: Unclosed): Step {
  if (!("line" in state)) return [state, []];
  const { line, session } = state;
  if (session.acked >= session.queued || line.ackAsked >= session.queued) return [state, []];
  return [{ ...state, line: { ...line, ackAsked: session.queued } }, [{ do: "say", conn: line.conn, frame: { type: "ping" } }]];
}

/** The socket itself cannot go on. The app behind the hub must not take that for a normal end. */
function failed(state: Unclosed, code: number, reason: string): Step {
  // 1006 never travels.
  const bye = { code: code === CLOSE.abnormal ? INTERNAL_ERROR : code, reason: cutReason(reason) };
  return end(state, { code, reason, wasClean: false, failed: true }, bye);
}

/** The outbox has the message already; here it gets its offset, and goes out if there is a line. */
function send(state: Unclosed, payload: Extract<Input, { type: "send" }>["payload"]): Step {
  if ("line" in state) {
    const queued = state.session.queued + 1;
    const session = { ...state.session, queued, sent: queued };
    return [{ ...state, session }, [{ do: "transmit", conn: state.line.conn, payload }]];
  }
  const { aim } = state;
  if (aim.kind === "first") return [state, []];
  const session = { ...aim.session, queued: aim.session.queued + 1 };
  return [{ ...state, aim: { ...aim, session } }, []];
}

function frame(state: Unclosed, conn: number, frame: HubFrame, at: Moment): Step {
  if (isAsking(state, conn)) return attemptFrame(state, frame, at);
  if (!isServed(state, conn)) return [state, []];
  const alive = heard(state, at);
  switch (frame.type) {
    case "move":
      return ordered(alive, frame, at);
    case "recall":
      return recalled(alive, frame);
    case "welcome":
    case "retry":
    case "reset":
      return fault(alive, conn, `${frame.type} came after welcome`, at);
  }
  const result = lineFrame(alive, frame, at);
  switch (result.kind) {
    case "step":
      return result.step;
    case "fault":
      return fault(alive, conn, result.fault, at);
    case "bye":
      return end(alive, { code: result.code, reason: result.reason, wasClean: true, failed: false }, null);
  }
}

/** The application let a `reset` pass: the socket ends, and the new session with it. */
function forsake(state: Unclosed, why: string): Step {
  const code = CLOSE.reset;
  return end(state, { code, reason: why, wasClean: true, failed: false }, { code, reason: why });
}

/** The hub broke the protocol. It would do so again, so nobody comes back; an old line that works stays. */
function fault(state: Unclosed, conn: number, reason: string, at: Moment): Step {
  const drop: Effect = { do: "drop", conn, code: CLOSE.protocolError, reason };
  if (isAsking(state, conn)) {
    const [next, effects] = attemptClosed(state, { code: CLOSE.protocolError, reason }, at);
    return [next, [drop, ...effects]];
  }
  if (!isServed(state, conn)) return [state, []];
  const [next, effects] = end(state, { code: CLOSE.protocolError, reason, wasClean: false, failed: true }, null);
  return [next, [drop, ...effects]];
}

function lineLost(state: Served, close: { readonly code: number; readonly reason: string }, at: Moment): Step {
  const { code, reason } = close;
  const opinion = verdict(code);
  const final = (opinion === "final" && !isByOurselves(state, code)) || (opinion === "auth" && !at.rules.renewable);
  if (final) return end(state, { code, reason, wasClean: code !== CLOSE.abnormal, failed: false }, null);
  const aim: Aim =
    opinion === "anew"
      ? { kind: "anew", session: state.session, why: code === CLOSE.badToken ? "bad_token" : "token_expired" }
      : { kind: "resume", session: state.session, lostAt: at.now };
  if (state.name === "moving" && aim.kind === "resume") {
    const event = { type: "reconnecting", code, reason, afterMs: 0 } as const;
    return [{ name: "connecting", aim, attempt: state.attempt }, [{ do: "tell", event }]];
  }
  const drop: Effect[] = state.name === "moving" ? [{ do: "drop", conn: state.attempt.conn }] : [];
  const failures = afterUptime(state.line.failures, at.now - state.line.since);
  // The slot and then the jitter: the hub spread the slots, and clients with one slot spread by themselves.
  const slot = slotMs(code, reason) ?? 0;
  const delay = slot + backoff(failures, at.random);
  const until = state.name === "deferred" && slot === 0 ? Math.min(state.until, at.now + delay) : at.now + delay;
  const event = { type: "reconnecting", code, reason, afterMs: Math.max(0, Math.round(until - at.now)) } as const;
  const to = aim.kind === "resume" ? aim.session.at : null;
  return [
    { name: "waiting", aim, to, until, failures, freshJwt: opinion !== "return" },
    [...drop, { do: "tell", event }],
  ];
}

/**
 * Whether a later hello of our own may be what closed this line, even one that was given up since:
 * its answer, or the next hello's, will tell. Had it been somebody else, that answer is final.
 */
function isByOurselves(state: Served, code: number): boolean {
  if (code === CLOSE.displaced) return state.session.tries > state.line.tries;
  return code === CLOSE.normal && state.name === "moving" && state.attempt.said !== null;
}

function tick(state: Unclosed, at: Moment): Step {
  if (state.name === "waiting") {
    if (state.aim.kind === "first" && at.now >= state.aim.giveUpAt) return attemptTick(state, at);
    return at.now >= state.until ? connect(state.aim, state.to, state.failures, state.freshJwt, at) : [state, []];
  }
  if (state.name === "connecting") return attemptTick(state, at);
  const line = lineTick(state, at);
  if (line === null) {
    const drop: Effect = { do: "drop", conn: state.line.conn, ...SILENT };
    const [next, effects] = lineLost(state, SILENT, at);
    return [next, [drop, ...effects]];
  }
  const [alive, effects] = line;
  const [next, more] = alive.name === "moving" || alive.name === "deferred" ? attemptTick(alive, at) : [alive, []];
  return [next, [...effects, ...more]];
}

/** The network is back: whoever waits asks soon, whoever has a line makes sure of it. */
function online(state: Unclosed, at: Moment): Step {
  if (state.name === "waiting") {
    return [{ ...state, until: Math.min(state.until, at.now + FLOOR_MS * (1 + at.random)) }, []];
  }
  return "line" in state ? probe(state, at) : [state, []];
}

function connect(aim: Aim, to: Place, failures: number, freshJwt: boolean, at: Moment): Step {
  const [attempt, effects] = dial(to, failures, freshJwt, at);
  return [{ name: "connecting", aim, attempt }, effects];
}

function isAsking(state: Unclosed, conn: number): state is Asking {
  return "attempt" in state && state.attempt.conn === conn;
}

function isServed(state: Unclosed, conn: number): state is Served {
  return "line" in state && state.line.conn === conn;
}
