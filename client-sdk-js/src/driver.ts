/** Carries the machine's effects out: connections, the outbox, one timer. What the application sees is `socket.ts`. */
import { CLOSE, cutReason } from "./close.js";
import { type Hello, encode, escape } from "./frames.js";
import { start, step } from "./machine.js";
import type { Home } from "./home.js";
import type { Environment } from "./options.js";
import { Outbox, type Payload } from "./outbox.js";
import { type Effect, type Happening, type Incoming, type Input, type Moment, type Place, type Rules, type State, wakeAt } from "./state.js";
import { Connection, type TransportClass } from "./transport.js";
import { moveTarget } from "./url.js";

/** Browsers fire a longer timer at once. */
const TIMER_MS_MAX = 2 ** 30;

/** What a driver needs, and whom it tells. */
export interface DriverParts {
  /** What stays the same for the socket's whole life. */
  readonly rules: Omit<Rules, "home">;
  /** The application's own URL. */
  readonly home: Home;
  /** Clock, timers and chance. */
  readonly environment: Environment;
  /** The WebSocket class underneath. */
  readonly create: TransportClass;
  /** The JWT, or a function that gives it. */
  readonly token: string | (() => string | Promise<string>) | undefined;
  /** The limit of unacked bytes. */
  readonly maxBuffered: number;
  /** Takes what the application is to be told. */
  readonly tell: (event: Happening) => void;
  /** Takes the app's messages. */
  readonly deliver: (data: Incoming) => void;
  /** Takes what the application's own functions threw, and what its WebSocket class would not do. */
  readonly report: (error: unknown) => void;
}

/** Runs one machine. */
export class Driver {
  /** What was sent and not acked. */
  readonly outbox: Outbox;
  readonly #parts: DriverParts;
  readonly #connections = new Map<number, Connection>();
  readonly #online = () => this.feed({ type: "online" });
  #rules: Rules;
  #state: State;
  #nextConn = 1;
  #effects: Effect[] = [];
  #isRunning = false;
  /** In the constructor, where a browser's own throws what it will not open. */
  #isBeginning = true;
  #timer: { readonly handle: unknown; readonly at: number } | null = null;
  #jwt: string | null;

  /**
   * Takes the machine's first step: it dials.
   *
   * @param parts - see {@link DriverParts}
   * @throws what the WebSocket class throws, if the first connection can be dialled at once
   */
  constructor(parts: DriverParts) {
    this.#parts = parts;
    this.outbox = new Outbox(parts.maxBuffered);
    this.#jwt = typeof parts.token === "string" ? parts.token : null;
    this.#rules = { ...parts.rules, home: parts.home.current };
    const [state, effects] = start(this.#moment());
    this.#state = state;
    this.#take(effects);
    this.#isBeginning = false;
    parts.environment.network?.addEventListener("online", this.#online);
  }

  /** Where the machine is. */
  get state(): State {
    return this.#state;
  }

  /** The WebSocket extensions of the newest connection. */
  get extensions(): string {
    const newest = Math.max(0, ...this.#connections.keys());
    return this.#connections.get(newest)?.extensions ?? "";
  }

  /**
   * One step. The state changes in the call; effects run in order, also when an effect's listener
   * calls back into here.
   *
   * @param input - what happened
   */
  feed(input: Input): void {
    const [state, effects] = step(this.#state, input, this.#moment());
    this.#state = state;
    this.#take(effects);
  }

  /**
   * Keeps a message, and sends it if there is a line.
   *
   * @param payload - what was sent; it fits, the caller asked
   */
  send(payload: Payload): void {
    this.outbox.push(payload);
    this.feed({ type: "send", payload });
  }

  #moment(): Moment {
    const { environment } = this.#parts;
    return { now: environment.now(), random: environment.random(), conn: this.#nextConn, rules: this.#rules };
  }

  #take(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (effect.do === "dial") this.#nextConn = effect.conn + 1;
      this.#effects.push(effect);
    }
    this.#run();
    this.#arm();
  }

  #run(): void {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (let effect = this.#effects.shift(); effect !== undefined; effect = this.#effects.shift()) {
        this.#carryOut(effect);
      }
    } finally {
      this.#isRunning = false;
    }
  }

  #carryOut(effect: Effect): void {
    switch (effect.do) {
      case "dial":
        return this.#dial(effect.conn, effect.to, effect.freshJwt);
      case "hello":
        return this.#hello(effect.conn, effect.hello);
      case "say":
        return this.#connections.get(effect.conn)?.send(encode(effect.frame));
      case "transmit":
        return this.#transmit(effect.conn, effect.payload);
      case "replay":
        for (const payload of this.outbox.unacked(effect.skip)) this.#transmit(effect.conn, payload);
        return;
      case "release":
        return this.outbox.release(effect.count);
      case "deliver":
        return this.#parts.deliver(effect.data);
      case "drop":
        this.#connections.get(effect.conn)?.drop(effect.code, effect.reason);
        this.#connections.delete(effect.conn);
        return;
      case "part":
        return this.#connections.get(effect.conn)?.part();
      case "tell":
        if (effect.event.type === "close") this.#stop();
        return this.#parts.tell(effect.event);
    }
  }

  #dial(conn: number, place: Place, freshJwt: boolean): void {
    const { token, home } = this.#parts;
    let address: string | Promise<string>;
    try {
      address = home.next();
    } catch (error) {
      return this.#failed(conn, "the url function failed", error);
    }
    const asksJwt = typeof token === "function" && (this.#jwt === null || freshJwt);
    if (typeof address === "string" && !asksJwt) return this.#open(conn, place);
    const known = Promise.resolve(address).catch((error: unknown) => Promise.reject({ whose: "url", error }));
    // Inside a promise, so that a callback that throws is the same as one that rejects.
    const jwt = asksJwt
      ? Promise.resolve().then(token).catch((error: unknown) => Promise.reject({ whose: "token", error }))
      : Promise.resolve(this.#jwt);
    Promise.all([known, jwt]).then(
      ([, fresh]) => {
        this.#jwt = fresh;
        if (isAsking(this.#state, conn)) this.#open(conn, place);
      },
      ({ whose, error }: { whose: string; error: unknown }) => this.#failed(conn, `the ${whose} function failed`, error),
    );
  }

  #open(conn: number, place: Place): void {
    const home = this.#parts.home.current;
    if (home !== this.#rules.home) this.#rules = { ...this.#rules, home };
    const url = moveTarget(place ?? undefined, home, this.#rules.allowHosts);
    const feed = (input: Input) => {
      if (input.type === "closed") this.#connections.delete(conn);
      this.feed(input);
    };
    try {
      const connection = new Connection(this.#parts.create, url, conn, feed);
      // Chromium makes one that is closed from the start where a policy forbids the address, and never says so.
      if (connection.isBarred) this.#barred(conn, url, "a policy of this page forbids the address");
      else this.#connections.set(conn, connection);
    } catch (error) {
      if (this.#isBeginning) throw error;
      this.#parts.report(error);
      this.#barred(conn, url, `the connection could not be created: ${wordsOf(error)}`);
    }
  }

  /** Said when the step that dialled is over, and the constructor too. */
  #barred(conn: number, url: string, reason: string): void {
    queueMicrotask(() => this.feed({ type: "barred", conn, url, reason: cutReason(reason) }));
  }

  /** A function of the application's did not give what a connection needs. */
  #failed(conn: number, what: string, error: unknown): void {
    this.#parts.report(error);
    this.feed({ type: "closed", conn, code: CLOSE.abnormal, reason: cutReason(`${what}: ${wordsOf(error)}`) });
  }

  #hello(conn: number, hello: Hello): void {
    const frame = this.#jwt === null ? hello : { ...hello, auth: this.#jwt };
    this.#connections.get(conn)?.send(encode(frame));
  }

  #transmit(conn: number, payload: Payload): void {
    this.#connections.get(conn)?.send(typeof payload === "string" ? escape(payload) : payload);
  }

  /** Sets the one timer. One that fires too early does no harm, so it is only ever moved forward. */
  #arm(): void {
    const at = wakeAt(this.#state);
    if (at === null || (this.#timer !== null && this.#timer.at <= at)) return;
    this.#disarm();
    const { environment } = this.#parts;
    const ms = Math.min(TIMER_MS_MAX, Math.max(0, Math.ceil(at - environment.now())));
    const handle = environment.setTimeout(() => {
      this.#timer = null;
      this.feed({ type: "tick" });
    }, ms);
    this.#timer = { handle, at };
  }

  #disarm(): void {
    if (this.#timer !== null) this.#parts.environment.clearTimeout(this.#timer.handle);
    this.#timer = null;
  }

  #stop(): void {
    this.#disarm();
    this.#parts.environment.network?.removeEventListener("online", this.#online);
    for (const connection of this.#connections.values()) connection.drop(CLOSE.normal);
    this.#connections.clear();
  }
}

function isAsking(state: State, conn: number): boolean {
  if (state.name === "closing") return isAsking(state.inner, conn);
  return "attempt" in state && state.attempt.conn === conn;
}

function wordsOf(error: unknown): string {
  return error instanceof Error && error.message !== "" ? error.message : String(error);
}
