/**
 * Plays one dialogue of `protocol/vectors/dialogues.json` with the machine. What the machine asks for
 * is written down in the terms of the file, and between two inputs it must be exactly what the file
 * has there: in order for each connection and for the application.
 */
import assert from "node:assert/strict";
import { escape, parse, sort, type ClientFrame } from "../src/frames.js";
import type { Effect, Happening } from "../src/state.js";
import type { Payload } from "../src/outbox.js";
import { moveTarget } from "../src/url.js";
import { Bench } from "./bench.js";

/** Something with fields, as it stands in the file. */
type Fields = Readonly<Record<string, unknown>>;

export interface Dialogue {
  readonly name: string;
  readonly ends: number | "by the application" | null;
  readonly steps: readonly Fields[];
}

/** What stands for the application where connections have their numbers. */
const APP = 0;

function hex(bytes: ArrayBuffer): string {
  return Buffer.from(bytes).toString("hex");
}

function unhex(text: string): ArrayBuffer {
  return Uint8Array.from(Buffer.from(text, "hex")).buffer;
}

function plain(payload: Payload): Fields {
  return typeof payload === "string" ? { text: payload } : { hex: hex(payload) };
}

function wire(payload: Payload): Fields {
  return typeof payload === "string" ? { text: escape(payload) } : { hex: hex(payload) };
}

/** A frame with every absent field that has a default filled in. */
function filled(frame: Fields): Fields {
  return frame["type"] === "hello" ? { try: 1, old: "lost", received: 0, ...frame } : frame;
}

class Player {
  readonly #bench: Bench;
  readonly #done = new Map<number, Fields[]>();
  /** Closed by either side: what the machine asks for there matters no more. */
  readonly #closed = new Set<number>();
  #outbox: Payload[] = [];
  #ended: number | null = null;

  constructor(home: string) {
    this.#bench = new Bench({ home });
    this.#note(this.#bench.effects);
  }

  get ended(): number | null {
    return this.#ended;
  }

  /** What was done and not expected, by connection. */
  get left(): Fields {
    return Object.fromEntries([...this.#done].filter(([, done]) => done.length > 0));
  }

  /** The next thing that was done there. */
  next(conn: number): Fields | undefined {
    return this.#done.get(conn)?.shift();
  }

  input(step: Fields): void {
    if (step["after_ms"] !== undefined) this.#note(this.#bench.pass(step["after_ms"] as number));
    else if (step["from"] === "app") this.#note(this.#app(step));
    else this.#note(this.#hub(step, step["conn"] as number));
  }

  #app(step: Fields): readonly Effect[] {
    const payload = (step["send"] ?? (step["send_hex"] === undefined ? undefined : unhex(step["send_hex"] as string))) as
      | Payload
      | undefined;
    if (payload !== undefined) {
      this.#outbox.push(payload);
      return this.#bench.feed({ type: "send", payload }).effects;
    }
    if (step["ready"] === true) return this.#bench.feed({ type: "ready", drain: null }).effects;
    const busy = step["busy"] as { ms: number; why: string } | undefined;
    if (busy !== undefined) return this.#bench.feed({ type: "busy", drain: null, ...busy }).effects;
    const bye = step["close"] as { code: number; reason: string };
    return this.#bench.feed({ type: "close", bye, flushed: true }).effects;
  }

  #hub(step: Fields, conn: number): readonly Effect[] {
    if (step["open"] === true) return this.#bench.feed({ type: "opened", conn }).effects;
    if ("answer" in step) {
      // Whatever the answer was: a browser says only that the connection never opened.
      this.#closed.add(conn);
      return this.#bench.closed(conn, 1006).effects;
    }
    if ("close" in step) {
      this.#closed.add(conn);
      return this.#bench.closed(conn, (step["close"] as number | null) ?? 1006, (step["reason"] as string | undefined) ?? "").effects;
    }
    if (step["hex"] !== undefined) {
      return this.#bench.feed({ type: "message", conn, data: unhex(step["hex"] as string) }).effects;
    }
    if (step["frame"] !== undefined) {
      const parsed = parse(JSON.stringify(step["frame"]));
      assert.ok(parsed.ok, `a hub says no such frame: ${JSON.stringify(parsed)}`);
      return this.#bench.frame(conn, parsed.frame).effects;
    }
    const sorted = sort(step["text"] as string);
    assert.ok(sorted.kind === "app", "frames stand under `frame`");
    return this.#bench.message(conn, sorted.text).effects;
  }

  #note(effects: readonly Effect[]): void {
    for (const effect of effects) this.#noteOne(effect);
  }

  #noteOne(effect: Effect): void {
    switch (effect.do) {
      case "dial":
        return this.#add(effect.conn, { dial: moveTarget(effect.to ?? undefined, this.#bench.rules.home, []) });
      case "hello":
        return this.#add(effect.conn, { frame: filled({ ...effect.hello }) });
      case "say":
        return this.#add(effect.conn, { frame: { ...(effect.frame satisfies ClientFrame) } });
      case "transmit":
        return this.#add(effect.conn, wire(effect.payload));
      case "replay":
        return this.#outbox.slice(effect.skip).forEach((payload) => this.#add(effect.conn, wire(payload)));
      case "release":
        this.#outbox = this.#outbox.slice(effect.count);
        return;
      case "deliver":
        return this.#add(APP, plain(effect.data));
      case "drop":
      case "part":
        this.#add(effect.conn, { close: effect.do === "part" ? 1000 : (effect.code ?? null) });
        this.#closed.add(effect.conn);
        return;
      case "tell":
        return this.#told(effect.event);
    }
  }

  #told(event: Happening): void {
    switch (event.type) {
      case "open":
        return this.#add(APP, { event: "opened" });
      case "moved":
      case "resumed":
      case "recalled":
        return this.#add(APP, { event: event.type });
      case "notice":
        return this.#add(APP, { event: "notice", slot_ms: event.slotMs });
      case "gap":
        return this.#add(APP, { event: "gap", first: event.from + 1, last: event.to });
      case "reset": {
        const unsent = this.#outbox.map((payload) => (typeof payload === "string" ? payload : plain(payload)));
        this.#outbox = [];
        return this.#add(APP, { event: "reset", why: event.why, replaces: event.replaces, unsent });
      }
      case "close":
        this.#ended = event.code;
        return;
      case "reconnecting":
      case "barred":
        return;
    }
  }

  #add(conn: number, what: Fields): void {
    if (this.#closed.has(conn)) return;
    this.#done.set(conn, [...(this.#done.get(conn) ?? []), what]);
  }
}

/** The step without who it is about, in the form in which the player notes what was done. */
function expectation({ from: _from, to: _to, conn: _conn, ...step }: Fields): Fields {
  return step["frame"] === undefined ? step : { frame: filled(step["frame"] as Fields) };
}

/**
 * Plays a dialogue to its end.
 *
 * @param dialogue - from the file
 * @param home - the URL that the application gave
 */
export function play(dialogue: Dialogue, home: string): void {
  const player = new Player(home);
  for (const [at, step] of dialogue.steps.entries()) {
    const where = `step ${at + 1}: ${JSON.stringify(step)}`;
    if (step["from"] !== "client" && step["to"] === undefined) {
      assert.deepEqual(player.left, {}, `before ${where}: done, but not expected`);
      player.input(step);
      continue;
    }
    const done = player.next((step["conn"] as number | undefined) ?? APP);
    const isAnyClose = step["close"] === null && done !== undefined && "close" in done;
    assert.deepEqual(done, isAnyClose ? done : expectation(step), where);
  }
  assert.deepEqual(player.left, {}, "at the end: done, but not expected");
  if (dialogue.ends === "by the application") assert.notEqual(player.ended, null, "the socket is closed");
  else assert.equal(player.ended, dialogue.ends, "the code that the socket closed with");
}
