/** Drives the machine by hand: a clock that the test turns, and what each step asked for. */
import assert from "node:assert/strict";
import type { HubFrame, Welcome } from "../src/frames.js";
import { start, step } from "../src/machine.js";
import { type Effect, type Happening, type Input, type Rules, type State, readyState, sessionOf, wakeAt } from "../src/state.js";
import { moveTarget } from "../src/url.js";

export const HOME = "wss://chat.example.com/connect?room=7";

export const RULES: Rules = {
  home: HOME,
  protocols: [],
  language: "",
  connectTimeoutMs: 20_000,
  heartbeatMaxMs: Infinity,
  allowHosts: [],
  renewable: false,
};

export const WELCOME: Welcome = {
  type: "welcome",
  session: "s-1",
  token: "t-1",
  epoch: 1,
  generation: 1,
  resumed: false,
  from: 0,
  received: 0,
  heartbeat_ms: 10_000,
  hub: "hub-a",
  limits: { message_bytes: 1000 },
};

export class Bench {
  state: State;
  now = 1_000;
  random = 0;
  /** The effects of the last step. */
  effects: readonly Effect[];
  readonly rules: Rules;
  #conn = 1;

  constructor(rules: Partial<Rules> = {}) {
    this.rules = { ...RULES, ...rules };
    [this.state, this.effects] = this.#count(start(this.#moment()));
  }

  /** A bench whose first session is open, on connection 1. */
  static open(rules: Partial<Rules> = {}, welcome: Partial<Welcome> = {}): Bench {
    const bench = new Bench(rules);
    bench.feed({ type: "opened", conn: 1 });
    bench.frame(1, { ...WELCOME, ...welcome });
    return bench;
  }

  #moment() {
    return { now: this.now, random: this.random, conn: this.#conn, rules: this.rules };
  }

  #count(result: readonly [State, readonly Effect[]]): [State, readonly Effect[]] {
    for (const effect of result[1]) if (effect.do === "dial") this.#conn = effect.conn + 1;
    return [result[0], result[1]];
  }

  feed(input: Input): this {
    [this.state, this.effects] = this.#count(step(this.state, input, this.#moment()));
    return this;
  }

  frame(conn: number, frame: HubFrame): this {
    return this.feed({ type: "frame", conn, frame });
  }

  message(conn: number, data: string): this {
    return this.feed({ type: "message", conn, data });
  }

  send(...texts: string[]): this {
    for (const payload of texts) this.feed({ type: "send", payload });
    return this;
  }

  closed(conn: number, code: number, reason = ""): this {
    return this.feed({ type: "closed", conn, code, reason });
  }

  close(code?: number): this {
    return this.feed({ type: "close", bye: code === undefined ? {} : { code }, flushed: true });
  }

  /** Turns the clock to the moment that the machine asked for. */
  wake(): this {
    const at = wakeAt(this.state);
    assert.ok(at !== null, `${this.state.name} asked for no tick`);
    this.now = Math.max(this.now, at);
    return this.feed({ type: "tick" });
  }

  /** Lets so many milliseconds pass, with every tick that the machine asks for. */
  pass(ms: number): Effect[] {
    const end = this.now + ms;
    const all: Effect[] = [];
    for (let at = wakeAt(this.state); at !== null && at <= end; at = wakeAt(this.state)) {
      this.wake();
      all.push(...this.effects);
    }
    this.now = end;
    return all;
  }

  /** The connection's hello is answered; from waiting or moving, whichever is under way. */
  get asking(): number {
    const { state } = this;
    assert.ok("attempt" in state, `${state.name} has no attempt`);
    return state.attempt.conn;
  }

  get ready(): number {
    return readyState(this.state);
  }

  get session() {
    const session = sessionOf(this.state);
    assert.ok(session !== null, `${this.state.name} has no session`);
    return session;
  }

  /** The effects of one kind in the last step. */
  did<K extends Effect["do"]>(kind: K): Extract<Effect, { do: K }>[] {
    return this.effects.filter((effect): effect is Extract<Effect, { do: K }> => effect.do === kind);
  }

  /** Where the dials of the last step lead. */
  dialled(): string[] {
    return this.did("dial").map(({ to }) => moveTarget(to ?? undefined, this.rules.home, this.rules.allowHosts));
  }

  /** What the application was told in the last step. */
  told(): Happening[] {
    return this.did("tell").map((effect) => effect.event);
  }

  toldTypes(): string[] {
    return this.told().map((event) => event.type);
  }

  /** What was delivered in the last step. */
  delivered(): unknown[] {
    return this.did("deliver").map((effect) => effect.data);
  }

  /** The hello of the last step. */
  hello() {
    const [effect] = this.did("hello");
    assert.ok(effect !== undefined, `no hello in ${JSON.stringify(this.effects)}`);
    return effect.hello;
  }
}
