/** Two ways to end: `close()` by the application, which a hub should hear of, and an end that is final at once. */
import { FLOOR_MS } from "./backoff.js";
import { CLOSE } from "./close.js";
import type { ClientFrame } from "./frames.js";
import {
  type Bye,
  type Effect,
  type Happening,
  type Input,
  type Moment,
  type State,
  type Step,
  type Unclosed,
  sessionOf,
} from "./state.js";

/** After `close()` the hub has this many milliseconds to hear of it. */
export const CLOSE_MS = 5_000;

/** The step function of the state inside `closing`. */
export type StepInner = (state: Unclosed, input: Input, at: Moment) => Step;

type Closing = Extract<State, { name: "closing" }>;
type Ending = Omit<Extract<Happening, { type: "close" }>, "type">;

/**
 * Ends at once: says `bye` where somebody may hear it, drops every connection, fires `close`.
 *
 * @param state - the state that ends
 * @param ending - the close event
 * @param bye - what the app behind the hub is told; null: it knows, or nobody listens
 * @param before - effects that come first
 */
export function end(state: Unclosed, ending: Ending, bye: Bye | null, before: readonly Effect[] = []): Step {
  const effects: Effect[] = [...before];
  if ("line" in state) {
    if (bye !== null) effects.push({ do: "say", conn: state.line.conn, frame: byeFrame(bye) });
    effects.push({ do: "drop", conn: state.line.conn, code: CLOSE.normal });
  }
  // 1000 on a connection that was not welcomed elsewhere ends a session that its hello may have begun.
  if ("attempt" in state) effects.push({ do: "drop", conn: state.attempt.conn, code: CLOSE.normal });
  effects.push({ do: "tell", event: { type: "close", ...ending } });
  return [{ name: "closed", protocol: sessionOf(state)?.protocol ?? "" }, effects];
}

/**
 * Takes `close()`.
 *
 * @param state - where the socket is
 * @param input - what the application gave, and whether all it sent before is handed over
 * @param at - the moment
 */
export function startClosing(state: Unclosed, input: Extract<Input, { type: "close" }>, at: Moment): Step {
  if ("aim" in state && state.aim.kind === "first") {
    // As in a browser: nobody was there who could have said why.
    return end(state, { code: CLOSE.abnormal, reason: "", wasClean: false, failed: true }, null);
  }
  // The old session is of no use to anyone, and the new one is not begun: nobody to say bye to.
  if ("aim" in state && state.aim.kind === "anew") return end(state, ending(input.bye), input.bye);
  const inner: Unclosed =
    state.name === "waiting" ? { ...state, until: Math.min(state.until, at.now + FLOOR_MS * (1 + at.random)) } : state;
  const closing: Closing = { name: "closing", inner, bye: input.bye, giveUpAt: at.now + CLOSE_MS, stage: "flushing" };
  return input.flushed ? leave(closing, at) : [closing, []];
}

/**
 * A step while `close()` is under way: the inner state goes on, unheard by the application, until a
 * hub has heard `bye` or the time is over.
 *
 * @param state - the closing state
 * @param input - what happened
 * @param at - the moment
 * @param stepInner - the machine's own step
 */
export function stepClosing(state: Closing, input: Input, at: Moment, stepInner: StepInner): Step {
  if (input.type === "flushed") return leave(state, at);
  if (input.type === "close" || input.type === "forsake") return [state, []];
  if (input.type === "tick" && at.now >= state.giveUpAt) {
    const late = { code: CLOSE.abnormal, reason: "no hub confirmed the close", wasClean: false, failed: false };
    return end(state.inner, late, state.bye);
  }
  if (heardBye(state, input)) return finish(state, []);
  if (input.type === "frame" && input.frame.type === "move") return [state, []];
  const [inner, effects] = stepInner(state.inner, input, at);
  const kept = effects.filter((effect) => effect.do !== "tell" && effect.do !== "deliver");
  if (inner.name === "closed" || inner.name === "closing") return finish(state, kept);
  const next: Closing = { ...state, inner };
  if (state.stage === "flushing" || !isNewLine(state.inner, inner)) return [next, kept];
  const [left, more] = leave(next, at);
  return [left, [...kept, ...more]];
}

/** Everything sent is handed over: `bye` goes out on the line, if there is one. */
function leave(state: Closing, at: Moment): Step {
  const { inner } = state;
  const giveUpAt = at.now + CLOSE_MS;
  if (!("line" in inner)) return [{ ...state, stage: "leaving", giveUpAt }, []];
  const { conn } = inner.line;
  const effects: Effect[] = [
    { do: "say", conn, frame: byeFrame(state.bye) },
    { do: "part", conn },
  ];
  // A hello under way may take the session elsewhere before the bye is read: its answer is awaited.
  if (inner.name === "moving" && inner.attempt.said !== null) {
    return [{ ...state, stage: "leaving", giveUpAt }, effects];
  }
  if (inner.name === "moving") effects.push({ do: "drop", conn: inner.attempt.conn });
  const open: Unclosed = { name: "open", session: inner.session, line: inner.line };
  return [{ ...state, inner: open, stage: "leaving", giveUpAt }, effects];
}

/** Whether this is the answer to our close: 1000, none, or the code that the bye carried. */
function heardBye(state: Closing, input: Input): boolean {
  if (state.stage !== "leaving" || input.type !== "closed" || !("line" in state.inner)) return false;
  if (input.conn !== state.inner.line.conn) return false;
  return input.code === CLOSE.normal || input.code === CLOSE.noStatus || input.code === state.bye.code;
}

function finish(state: Closing, effects: readonly Effect[]): Step {
  const drops: Effect[] = [];
  if ("attempt" in state.inner) drops.push({ do: "drop", conn: state.inner.attempt.conn, code: CLOSE.normal });
  const event: Effect = { do: "tell", event: { type: "close", ...ending(state.bye) } };
  return [{ name: "closed", protocol: sessionOf(state)?.protocol ?? "" }, [...effects, ...drops, event]];
}

function isNewLine(before: Unclosed, after: Unclosed): boolean {
  return "line" in after && !("line" in before && before.line.conn === after.line.conn);
}

function ending(bye: Bye): Ending {
  return { code: bye.code ?? CLOSE.noStatus, reason: bye.reason ?? "", wasClean: true, failed: false };
}

function byeFrame(bye: Bye): ClientFrame {
  return { type: "bye", ...bye };
}
