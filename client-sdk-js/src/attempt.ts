/** A connection that is not welcomed yet: the first, one that comes back, or the second one of a move. */
import { arrive } from "./arrive.js";
import { backoff, ordered } from "./backoff.js";
import { CLOSE, verdict, type Verdict } from "./close.js";
import { end } from "./farewell.js";
import type { Hello, HubFrame, Old } from "./frames.js";
import type { Asking, Attempt, Effect, Moment, Session, State, Step, Unclosed } from "./state.js";

/** An attempt without an answer is given up after this many milliseconds. A freeze lasts 10 s at most. */
export const ATTEMPT_MS = 15_000;

/** So many `retry` in a row from one place, and the other has its turn. */
const RETRIES_IN_ROW_MAX = 3;

interface Failure {
  readonly code: number;
  readonly reason: string;
  readonly verdict: Verdict;
  /** How long a hub said to wait, in milliseconds; null: by backoff. */
  readonly afterMs: number | null;
}

/**
 * Begins an attempt.
 *
 * @param url - where to
 * @param failures - how many tries in a row failed
 * @param freshJwt - whether the application must be asked for another JWT
 * @param at - the moment
 */
export function dial(
  url: string,
  failures: number,
  freshJwt: boolean,
  at: Moment,
): readonly [Attempt, readonly Effect[]] {
  const { conn } = at;
  const attempt: Attempt = { conn, url, giveUpAt: at.now + ATTEMPT_MS, failures, said: null, freshJwt, reset: null };
  return [attempt, [{ do: "dial", conn, url, freshJwt }]];
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
  return fail(state, { code, reason, verdict: verdict(code), afterMs: null }, [], at);
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
    const [attempt, effects] = dial(state.url, state.failures, state.freshJwt, at);
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
  const url = nextUrl(state, failure, at);
  if (state.name === "moving") {
    const { session, line, order } = state;
    if (order === null || !again) return [{ name: "open", session, line }, effects];
    return [{ name: "deferred", session, line, order, url, until, failures, freshJwt: renew }, effects];
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
  const next: State = { name: "waiting", aim, url, until, failures, freshJwt };
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
function nextUrl(state: Asking, failure: Failure, at: Moment): string {
  const { home } = at.rules;
  const session = state.name === "moving" ? state.session : state.aim.kind === "resume" ? state.aim.session : null;
  if (failure.afterMs !== null && session?.retries !== 0) return state.attempt.url;
  if (state.attempt.url !== home || failure.verdict === "anew") return home;
  if (state.name === "moving") return state.order?.url ?? home;
  return state.aim.kind === "resume" ? state.aim.session.at : home;
}

function delay(state: Asking, failure: Failure, at: Moment): number {
  if (failure.afterMs === null) return backoff(state.attempt.failures, at.random);
  const order = ordered(failure.afterMs, at.random);
  // That order was for a client whose old connection works. This one's is lost since: it says so soon.
  const stale = state.name === "connecting" && state.attempt.said === "open";
  return stale ? Math.min(order, backoff(state.attempt.failures, at.random)) : order;
}
