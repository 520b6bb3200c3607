/** A connection that is not welcomed yet: the first, one that comes back, or the second one of a move. */
import { arrive } from "./arrive.js";
import { backoff, ordered } from "./backoff.js";
import { CLOSE, verdict, type Verdict } from "./close.js";
import { end } from "./farewell.js";
import type { Hello, HubFrame, Old } from "./frames.js";
import type { Asking, Attempt, Effect, Moment, Place, Session, State, Step, Unclosed } from "./state.js";
import { originOf } from "./url.js";

/** An attempt without an answer is given up after this many milliseconds. A freeze lasts 10 s at most. */
export const ATTEMPT_MS = 15_000;

/** So many origins that a page may not connect to are remembered. */
const BARRED_MAX = 16;

/** So many `retry` in a row from one place, and the other has its turn. */
const RETRIES_IN_ROW_MAX = 3;

interface Failure {
  readonly code: number;
  readonly reason: string;
  /** As for a close; `hopeless`: the connection never came to be, and no session waits for it. */
  readonly verdict: Verdict | "hopeless";
  /** How long a hub said to wait, in milliseconds; null: by backoff. */
  readonly afterMs: number | null;
}

/**
 * Begins an attempt.
 *
 * @param to - where to
 * @param failures - how many tries in a row failed
 * @param freshJwt - whether the application must be asked for another JWT
 * @param at - the moment
 */
export function dial(
  to: Place,
  failures: number,
  freshJwt: boolean,
  at: Moment,
): readonly [Attempt, readonly Effect[]] {
  const { conn } = at;
  const attempt: Attempt = { conn, to, giveUpAt: at.now + ATTEMPT_MS, failures, overtaken: false, said: null, freshJwt, reset: null };
  return [attempt, [{ do: "dial", conn, to, freshJwt }]];
}

/**
 * The connection is open: `hello`.
 *
 * @param state - the state that asks
 * @param at - the moment
 */
export function sayHello(state: Asking, at: Moment): Step {
  const said = state.name === "moving" ? "open" : "lost";
  const { protocols, language } = at.rules;
  const wishes = { ...(protocols.length > 0 && { protocols }), ...(language !== "" && { language }) };
  const attempt = { ...state.attempt, said } as const;
  const effect = (hello: Hello): Effect => ({ do: "hello", conn: attempt.conn, hello });
  if (state.name === "moving") {
    const session = tryAgain(state.session);
    return [{ ...state, session, attempt }, [effect(comeBack(session, said, wishes))]];
  }
  if (state.aim.kind !== "resume") return [{ ...state, attempt }, [effect({ type: "hello", ...wishes })]];
  const session = tryAgain(state.aim.session);
  return [{ ...state, aim: { ...state.aim, session }, attempt }, [effect(comeBack(session, said, wishes))]];
}

function tryAgain(session: Session): Session {
  return { ...session, tries: session.tries + 1 };
}

function comeBack(session: Session, old: Old, wishes: Pick<Hello, "protocols" | "language">): Hello {
  const { token, tries, received, epoch } = session;
  return { type: "hello", token, try: tries, old, received, epoch, ...wishes };
}

/**
 * A frame on a connection that is not welcomed yet.
 *
 * @param state - the state that asks
 * @param frame - what came
 * @param at - the moment
 */
export function attemptFrame(state: Asking, frame: HubFrame, at: Moment): Step {
  const { attempt } = state;
  switch (frame.type) {
    case "welcome": {
      if (attempt.said === null) return refuse(state, "welcome came before hello", at);
      const arrival = arrive(state, frame, at);
      return arrival.ok ? arrival.step : refuse(state, arrival.fault, at);
    }
    case "retry": {
      if (attempt.reset !== null) return refuse(state, "retry came after reset", at);
      const failure: Failure = { code: CLOSE.later, reason: frame.why, verdict: "return", afterMs: frame.after_ms };
      return fail(state, failure, [{ do: "drop", conn: attempt.conn }], at);
    }
    case "reset":
      if (!gaveToken(state)) return refuse(state, "reset came, but no token was given", at);
      if (attempt.reset !== null) return refuse(state, "reset came twice", at);
      return [{ ...state, attempt: { ...attempt, reset: { why: frame.why, replaces: frame.replaces } } }, []];
    case "bye":
      return end(state, { code: frame.code, reason: frame.reason, wasClean: true, failed: false }, null);
    case "ping":
    case "pong":
      // Nothing may be said before welcome, so there is no answer; it does no harm either.
      return [state, []];
    default:
      return refuse(state, `${frame.type} came before welcome`, at);
  }
}

/**
 * The connection closed, or never opened.
 *
 * @param state - the state that asks
 * @param close - the close event's code and reason
 * @param at - the moment
 */
export function attemptClosed(state: Asking, close: { readonly code: number; readonly reason: string }, at: Moment): Step {
  const { code, reason } = close;
  // The first connection of all never opened: as a browser's own, it fails at once, and the application decides.
  const isHopeless = state.name === "connecting" && state.aim.kind === "first" && state.attempt.said === null;
  return fail(state, { code, reason, verdict: isHopeless ? "hopeless" : verdict(code), afterMs: null }, [], at);
}

/**
 * A policy of the page forbids the address that a hub named: the application's own has its turn at once, and
 * the address is remembered, for the next move may name it again.
 *
 * @param state - the state that asks
 * @param barred - the address, and what the browser said
 * @param at - the moment
 */
export function attemptBarred(state: Asking, barred: { readonly url: string; readonly reason: string }, at: Moment): Step {
  const { attempt } = state;
  if (attempt.to === null) return attemptClosed(state, { code: CLOSE.abnormal, reason: barred.reason }, at);
  const told: Effect = { do: "tell", event: { type: "barred", url: barred.url, reason: barred.reason } };
  const [next, effects] = dial(null, attempt.failures, attempt.freshJwt, at);
  if (state.name === "moving") {
    const { session, line, order } = state;
    const home = order === null ? null : { ...order, to: null };
    return [{ name: "moving", session: bar(session, attempt.to), line, order: home, attempt: next }, [told, ...effects]];
  }
  const aim = state.aim.kind === "resume" ? { ...state.aim, session: bar(state.aim.session, attempt.to) } : state.aim;
  return [{ name: "connecting", aim, attempt: next }, [told, ...effects]];
}

/** Remembers it, and the newest of them only: no fleet has so many names for one page. */
function bar(session: Session, to: string): Session {
  const origin = originOf(to);
  const barred = origin === null ? session.barred : [...session.barred.filter((known) => known !== origin), origin];
  return { ...session, at: null, barred: barred.slice(-BARRED_MAX) };
}

/**
 * What time asks of an attempt, or of the wait for one.
 *
 * @param state - any state but `open`
 * @param at - the moment
 */
export function attemptTick(state: Exclude<Unclosed, { name: "open" }>, at: Moment): Step {
  if (state.name === "deferred") {
    if (at.now < state.until) return [state, []];
    const [attempt, effects] = dial(state.to, state.failures, state.freshJwt, at);
    return [{ name: "moving", session: state.session, line: state.line, order: state.order, attempt }, effects];
  }
  if (state.name !== "moving" && state.aim.kind === "first" && at.now >= state.aim.giveUpAt) {
    const reason = `no session within ${at.rules.connectTimeoutMs} ms`;
    return end(state, { code: CLOSE.abnormal, reason, wasClean: false, failed: true }, null);
  }
  if (state.name === "waiting" || at.now < state.attempt.giveUpAt) return [state, []];
  const failure: Failure = { code: CLOSE.abnormal, reason: "no answer", verdict: "return", afterMs: null };
  return fail(state, failure, [{ do: "drop", conn: state.attempt.conn }], at);
}

/** Whether the hello of this attempt carries a token. */
function gaveToken(state: Asking): boolean {
  return state.name === "moving" || state.aim.kind === "resume";
}

function refuse(state: Asking, reason: string, at: Moment): Step {
  const code = CLOSE.protocolError;
  const drop: Effect = { do: "drop", conn: state.attempt.conn, code, reason };
  return fail(state, { code, reason, verdict: "final", afterMs: null }, [drop], at);
}

/** The attempt came to nothing: wait and try again, stay with the old line, ask anew, or end. */
function fail(before: Asking, failure: Failure, effects: readonly Effect[], at: Moment): Step {
  const state = counted(before, failure);
  const { attempt } = state;
  const renew = failure.verdict === "auth" && at.rules.renewable && !attempt.freshJwt;
  const again = failure.verdict === "return" || renew;
  const failures = failure.afterMs === null ? attempt.failures + 1 : attempt.failures;
  const until = at.now + delay(state, failure, at);
  const to = nextPlace(state, failure);
  if (state.name === "moving") {
    const { session, line, order } = state;
    if (order === null || !again) return [{ name: "open", session, line }, effects];
    return [{ name: "deferred", session, line, order, to, until, failures, freshJwt: renew }, effects];
  }
  let { aim } = state;
  let freshJwt = renew;
  if (failure.verdict === "anew" && aim.kind === "resume") {
    const why = failure.code === CLOSE.badToken ? "bad_token" : "token_expired";
    aim = { kind: "anew", session: aim.session, why };
    freshJwt = true;
  } else if (!again) {
    const { code, reason } = failure;
    const clean = code !== CLOSE.abnormal && code !== CLOSE.protocolError;
    return end(state, { code, reason, wasClean: clean, failed: aim.kind === "first" || !clean }, null, effects);
  }
  const { code, reason } = failure;
  const afterMs = Math.round(until - at.now);
  const told: Effect[] =
    aim.kind === "first" ? [] : [{ do: "tell", event: { type: "reconnecting", code, reason, afterMs } }];
  const next: State = { name: "waiting", aim, to, until, failures, freshJwt };
  return [next, [...effects, ...told]];
}

/** The same state, with this `retry` counted, or the count begun anew. */
function counted(state: Asking, failure: Failure): Asking {
  const count = (session: Session): Session => {
    const retries = failure.afterMs === null ? 0 : (session.retries + 1) % RETRIES_IN_ROW_MAX;
    return { ...session, retries };
  };
  if (state.name === "moving") return { ...state, session: count(state.session) };
  return state.aim.kind === "resume" ? { ...state, aim: { ...state.aim, session: count(state.aim.session) } } : state;
}

/**
 * A hub that a move named may be gone: then the application's own URL has its turn, and so on by turns.
 * One that answers `retry` is at work and asked again; but it may be cut off from the hub that holds the
 * session, so after three in a row the other place has its turn, too.
 */
function nextPlace(state: Asking, failure: Failure): Place {
  const session = state.name === "moving" ? state.session : state.aim.kind === "resume" ? state.aim.session : null;
  if (state.attempt.overtaken && session !== null) return state.name === "moving" ? (state.order?.to ?? null) : session.at;
  if (failure.afterMs !== null && session?.retries !== 0) return state.attempt.to;
  if (state.attempt.to !== null || failure.verdict === "anew") return null;
  if (state.name === "moving") return state.order?.to ?? null;
  return state.aim.kind === "resume" ? state.aim.session.at : null;
}

function delay(state: Asking, failure: Failure, at: Moment): number {
  if (failure.afterMs === null) return backoff(state.attempt.failures, at.random);
  const order = ordered(failure.afterMs, at.random);
  // That order was for a client whose old connection works. This one's is lost since: it says so soon.
  const stale = state.name === "connecting" && state.attempt.said === "open";
  return stale ? Math.min(order, backoff(state.attempt.failures, at.random)) : order;
}
