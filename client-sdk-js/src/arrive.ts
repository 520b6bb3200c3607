/** `welcome`: the one moment in which a connection becomes the connection, and the old one goes deaf. */
import { CLOSE } from "./close.js";
import type { Welcome } from "./frames.js";
import { TELL_MS } from "./line.js";
import type { Aim, Asking, Attempt, Effect, Line, Moment, Session, State, Step } from "./state.js";

/** The step that a welcome makes, or the fault in it. */
export type Arrival = { readonly ok: true; readonly step: Step } | { readonly ok: false; readonly fault: string };

/**
 * Takes the welcome on the connection that asked.
 *
 * @param state - the state whose attempt it answers
 * @param welcome - the frame
 * @param at - the moment
 */
export function arrive(state: Asking, welcome: Welcome, at: Moment): Arrival {
  const aim: Aim =
    state.name === "moving" ? { kind: "resume", session: state.session, lostAt: at.now } : state.aim;
  if (aim.kind === "resume" && welcome.resumed) {
    if (state.attempt.reset !== null) return fault("welcome says resumed after a reset");
    return resume(state, aim, welcome, at);
  }
  if (welcome.resumed) return fault("welcome says resumed, but no token was given");
  return begin(state, aim, welcome, at);
}

function resume(state: Asking, aim: Aim & { kind: "resume" }, welcome: Welcome, at: Moment): Arrival {
  const before = aim.session;
  const wrong = discontinuity(before, welcome);
  if (wrong !== null) return fault(wrong);
  // What came on the old connection after the hello is not acked yet as far as this hub can know.
  const told = Math.min(before.received, welcome.from);
  const session: Session = {
    ...before,
    ...identity(welcome, before.protocol),
    at: state.attempt.to,
    told,
    tellAt: told < before.received ? at.now + TELL_MS : null,
    sent: before.queued,
    retries: 0,
  };
  const effects: Effect[] = [...deafen(state)];
  // Counted is not taken: what lies below `received` is not sent again, and yet kept until its ack.
  const counted = welcome.received - before.acked;
  if (before.queued > welcome.received) effects.push({ do: "replay", conn: state.attempt.conn, skip: counted });
  const who = { session: session.id, hub: session.hub };
  effects.push({
    do: "tell",
    event:
      // A balancer may bring it back to the very hub that it was to leave: that is no move.
      state.name === "moving" && session.hub !== before.hub
        ? { type: "moved", ...who }
        : { type: "resumed", ...who, downMs: Math.round(at.now - aim.lostAt) },
  });
  return open(session, state.attempt, welcome, at, effects);
}

/** A new session: the first one, or one in place of a session that is lost. */
function begin(state: Asking, aim: Aim, welcome: Welcome, at: Moment): Arrival {
  const before = aim.kind === "first" ? null : aim.session;
  if (before === null && welcome.received !== 0) {
    return fault(`welcome.received ${welcome.received} is above the 0 messages sent`);
  }
  const session: Session = {
    ...identity(welcome, ""),
    at: state.attempt.to,
    barred: before?.barred ?? [],
    // Never lowered, and the first hello was a try too.
    tries: before?.tries ?? 1,
    received: welcome.from,
    told: welcome.from,
    tellAt: null,
    queued: welcome.received,
    sent: welcome.received,
    acked: welcome.received,
    retries: 0,
    heard: null,
  };
  const effects: Effect[] = [...deafen(state)];
  if (before === null) {
    effects.push({ do: "tell", event: { type: "open" } });
  } else {
    const why = state.attempt.reset?.why ?? (aim.kind === "anew" ? aim.why : "unknown");
    effects.push({ do: "tell", event: { type: "reset", session: session.id, replaces: before.id, why } });
  }
  return open(session, state.attempt, welcome, at, effects);
}

function open(session: Session, attempt: Attempt, welcome: Welcome, at: Moment, effects: Effect[]): Arrival {
  // A heartbeat of 0 asks for none.
  const asked = welcome.heartbeat_ms === 0 ? Infinity : welcome.heartbeat_ms;
  const heartbeatMs = Math.min(asked, at.rules.heartbeatMaxMs);
  const line: Line = {
    conn: attempt.conn,
    position: welcome.from,
    heartbeatMs,
    askAt: at.now + heartbeatMs,
    asked: 0,
    ackAsked: 0,
    since: at.now,
    failures: attempt.failures,
    tries: session.tries,
    leaving: null,
  };
  const state: State = { name: "open", session, line };
  return { ok: true, step: [state, effects] };
}

/** Goes deaf on the old connection, and closes it: with 1000, for the client was welcomed elsewhere. */
function deafen(state: Asking): Effect[] {
  return state.name === "moving" ? [{ do: "drop", conn: state.line.conn, code: CLOSE.normal }] : [];
}

function identity(welcome: Welcome, protocol: string) {
  return {
    id: welcome.session,
    token: welcome.token,
    epoch: welcome.epoch,
    generation: welcome.generation,
    hub: welcome.hub,
    protocol: welcome.protocol ?? protocol,
    messageBytes: welcome.limits.message_bytes,
  };
}

/** Says what in a welcome cannot continue this session, or null. */
function discontinuity(session: Session, welcome: Welcome): string | null {
  if (welcome.session !== session.id) return "welcome says resumed, but names another session";
  if (welcome.epoch !== session.epoch) return `welcome says resumed, but epoch ${welcome.epoch} is not ${session.epoch}`;
  if (welcome.from > session.received) {
    return `welcome.from ${welcome.from} is above the ${session.received} messages received`;
  }
  if (welcome.received > session.sent) {
    return `welcome.received ${welcome.received} is above the ${session.sent} messages sent`;
  }
  if (welcome.received < session.acked) {
    return `welcome.received ${welcome.received} is below the ${session.acked} messages acked`;
  }
  return null;
}

function fault(text: string): Arrival {
  return { ok: false, fault: text };
}
