/** The events of a `TidegateSocket`: the browser's own, with stand-ins for Node 20, and ours. */
import type { DomBlob, DomCloseEvent, DomEvent, DomEventClass, DomEventTarget, DomMessageEvent } from "./dom.js";
import type { Sent } from "./sender.js";

/** A drain was announced: the service is pausing. All works on as before. */
export interface NoticeDetail {
  /** Names the drain. */
  readonly drain: string;
  /** A word for programs, such as `deployment`. */
  readonly reason: string;
  /** A sentence for people. */
  readonly text: string;
  /** The language of `text`, as BCP 47. */
  readonly language: string;
  /** When everything ends, in milliseconds from now. */
  readonly deadlineMs: number;
  /** When this client will be asked to move, in milliseconds from now. */
  readonly slotMs: number;
}

/** The session goes on at another hub; nothing was lost. */
export interface MovedDetail {
  /** The session's id. */
  readonly session: string;
  /** The hub that serves it now. */
  readonly hub: string;
}

/** The drain was cancelled. */
export interface RecalledDetail {
  /** Names the drain. */
  readonly drain: string;
}

/** The connection is lost; what is sent meanwhile is kept. Comes again with each failed try. */
export interface ReconnectingDetail {
  /** The close code; 1006: none. */
  readonly code: number;
  /** The close reason, or a hub's reason for `retry`. */
  readonly reason: string;
  /** When the next try begins, in milliseconds from now. */
  readonly afterMs: number;
}

/** The session goes on after a lost connection; nothing was lost. */
export interface ResumedDetail extends MovedDetail {
  /** For how long there was no connection, in milliseconds. */
  readonly downMs: number;
}

/** Continuity was lost, and a new session is ready. */
export interface ResetDetail {
  /** The new session's id. */
  readonly session: string;
  /** The old session's id. */
  readonly replaces: string;
  /** A word: `unknown`, `owner_lost`, `taken_up_lost`, `expired`, `bad_token`, `token_expired`. More may come. */
  readonly why: string;
  /** What was sent and never acked, oldest first. The app may have taken it or not; it is never resent by itself. */
  readonly unsent: readonly Sent[];
}

/** Messages from the hub are lost for good. */
export interface GapDetail {
  /** The number of the last message before the gap, counted from 1. */
  readonly from: number;
  /** The number of the last message that is lost. */
  readonly to: number;
  /** A word. */
  readonly why: string;
}

/** A hub named an address that a policy of this page (its `connect-src`, say) forbids; the socket uses its own URL. */
export interface BarredDetail {
  /** The address. */
  readonly url: string;
  /** What the browser said, if anything. */
  readonly reason: string;
}

const BaseEvent: DomEventClass = Event;

/** An event with a `detail`, as `CustomEvent` is. */
export class TidegateEvent<Detail> extends BaseEvent {
  /** What happened. */
  readonly detail: Detail;

  /**
   * @param type - the event's name
   * @param detail - what happened
   * @param cancelable - whether `preventDefault()` does something
   */
  constructor(type: string, detail: Detail, cancelable = false) {
    super(type, { cancelable });
    this.detail = detail;
  }
}

/** The events of a `TidegateSocket`, by name. */
export interface TidegateSocketEventMap {
  open: DomEvent;
  message: DomMessageEvent;
  error: DomEvent;
  close: DomCloseEvent;
  notice: TidegateEvent<NoticeDetail>;
  moved: TidegateEvent<MovedDetail>;
  recalled: TidegateEvent<RecalledDetail>;
  reconnecting: TidegateEvent<ReconnectingDetail>;
  resumed: TidegateEvent<ResumedDetail>;
  reset: TidegateEvent<ResetDetail>;
  gap: TidegateEvent<GapDetail>;
  barred: TidegateEvent<BarredDetail>;
}

/** Stands in for `CloseEvent` where there is none. */
class PlainCloseEvent extends Event {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;

  constructor(type: string, init: { code: number; reason: string; wasClean: boolean }) {
    super(type);
    this.code = init.code;
    this.reason = init.reason;
    this.wasClean = init.wasClean;
  }
}

/** Stands in for `MessageEvent` where there is none. */
class PlainMessageEvent extends Event {
  readonly data: unknown;
  readonly origin: string;
  readonly lastEventId = "";
  readonly source = null;
  readonly ports: readonly never[] = [];

  constructor(type: string, init: { data: unknown; origin: string }) {
    super(type);
    this.data = init.data;
    this.origin = init.origin;
  }
}

/**
 * A `close` event.
 *
 * @param code - the close code
 * @param reason - the close reason
 * @param wasClean - whether both sides know of the end
 */
export function closeEvent(code: number, reason: string, wasClean: boolean): DomEvent {
  const create = typeof CloseEvent === "undefined" ? PlainCloseEvent : CloseEvent;
  return new create("close", { code, reason, wasClean });
}

/**
 * A `message` event.
 *
 * @param data - the app's own message
 * @param origin - the origin of the socket's URL
 */
export function messageEvent(data: string | ArrayBuffer | DomBlob, origin: string): DomEvent {
  const create = typeof MessageEvent === "undefined" ? PlainMessageEvent : MessageEvent;
  return new create("message", { data, origin });
}

type AnyHandler = ((event: never) => unknown) | object | null;

/** The `on…` attributes of one target, as HTML has them: each is a listener that keeps its place when it is replaced. */
export class Handlers {
  readonly #target: DomEventTarget;
  readonly #active = new Map<string, { handler: AnyHandler; readonly listener: (event: Event) => void }>();

  /**
   * @param target - whose attributes they are
   */
  constructor(target: DomEventTarget) {
    this.#target = target;
  }

  /**
   * The attribute's value.
   *
   * @param type - the event's name
   */
  get<H extends AnyHandler>(type: string): H | null {
    return (this.#active.get(type)?.handler as H | undefined) ?? null;
  }

  /**
   * Sets the attribute.
   *
   * @param type - the event's name
   * @param handler - what is no object counts as null, and null gives the place among the listeners up
   */
  set(type: string, handler: unknown): void {
    const active = this.#active.get(type);
    if (typeof handler !== "function" && (typeof handler !== "object" || handler === null)) {
      if (active !== undefined) this.#target.removeEventListener(type, active.listener);
      this.#active.delete(type);
    } else if (active !== undefined) {
      active.handler = handler;
    } else {
      const fresh = { handler: handler as AnyHandler, listener: (event: Event) => this.#call(type, event) };
      this.#active.set(type, fresh);
      this.#target.addEventListener(type, fresh.listener);
    }
  }

  #call(type: string, event: Event): void {
    const handler = this.#active.get(type)?.handler as ((event: Event) => unknown) | object | undefined;
    if (!isCallable(handler)) return;
    // The word of an attribute's handler that the event's default is not wanted.
    if (handler.call(this.#target, event) === false) event.preventDefault();
  }
}

function isCallable(handler: unknown): handler is (event: Event) => unknown {
  return typeof handler === "function";
}
