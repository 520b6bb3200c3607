/** The orders of a drain that change what the socket is after: `move` and `recall`. */
import { dial } from "./attempt.js";
import type { MoveFrame } from "./frames.js";
import { isNews } from "./line.js";
import type { Effect, Moment, Order, Served, State, Step } from "./state.js";
import { placeOf } from "./url.js";

/**
 * Takes a `move`: the second connection is opened in this very step, for timers are slow in hidden tabs.
 *
 * @param state - a state with a line
 * @param frame - the order
 * @param at - the moment
 */
export function ordered(state: Served, frame: MoveFrame, at: Moment): Step {
  if (!isNews(state.session, frame)) return [state, []];
  const to = placeOf(frame.url, state.session.barred, at.rules);
  const order: Order = { drain: frame.drain, to };
  const heard = { drain: frame.drain, seq: frame.seq };
  const session = { ...state.session, token: frame.token, at: to, retries: 0, heard };
  const { line } = state;
  const effects: Effect[] = [];
  if (state.name === "moving") {
    const { attempt } = state;
    // A hello that is under way ends by its own answer, or the hub that it went to would be left with a session
    // that nobody fetches; one still to be said takes the newer token.
    if (attempt.said !== null) {
      const overtaken = attempt.overtaken || attempt.to !== to;
      return [{ ...state, session, order, attempt: { ...attempt, overtaken } }, []];
    }
    if (attempt.to === to) return [{ ...state, session, order }, []];
    effects.push({ do: "drop", conn: attempt.conn });
  }
  const [attempt, dialled] = dial(to, 0, false, at);
  return [{ name: "moving", session, line, order, attempt }, [...effects, ...dialled]];
}

/**
 * Takes a `recall`: the notice and the move are forgotten, but a hello under way still gets its answer.
 *
 * @param state - a state with a line
 * @param frame - the drain's name and count
 */
export function recalled(state: Served, frame: { readonly drain: string; readonly seq: number }): Step {
  if (!isNews(state.session, frame)) return [state, []];
  const session = { ...state.session, heard: { drain: frame.drain, seq: frame.seq } };
  const line = { ...state.line, leaving: null };
  const tell: Effect = { do: "tell", event: { type: "recalled", drain: frame.drain } };
  if (state.name === "moving" && state.attempt.said !== null) {
    return [{ ...state, session, line, order: null }, [tell]];
  }
  const drop: Effect[] = state.name === "moving" ? [{ do: "drop", conn: state.attempt.conn }] : [];
  const next: State = { name: "open", session, line };
  return [next, [...drop, tell]];
}
