/**
 * The browser's types, where the program that uses this package has them (the DOM library, or those of Node), and as
 * much of them as is needed where it has none. So nobody must add the DOM library to a server's settings.
 */

/** What is seen of any event. */
export interface PlainEvent {
  readonly type: string;
  readonly defaultPrevented: boolean;
  readonly cancelable: boolean;
  readonly timeStamp: number;
  preventDefault(): void;
}

interface PlainEventClass {
  new (type: string, init?: { bubbles?: boolean; cancelable?: boolean; composed?: boolean }): PlainEvent;
  readonly prototype: PlainEvent;
}

interface PlainMessageEvent extends PlainEvent {
  // As in the DOM library: the page knows what its app sends.
  readonly data: any;
  readonly origin: string;
}

interface PlainCloseEvent extends PlainEvent {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
}

interface PlainEventTarget {
  addEventListener(type: string, listener: Listener | null, options?: boolean | ListenerOptions): void;
  removeEventListener(type: string, listener: Listener | null, options?: boolean | { capture?: boolean }): void;
  dispatchEvent(event: DomEvent): boolean;
}

interface PlainEventTargetClass {
  new (): PlainEventTarget;
  readonly prototype: PlainEventTarget;
}

interface PlainBlob {
  readonly size: number;
  readonly type: string;
  arrayBuffer(): Promise<ArrayBuffer>;
  text(): Promise<string>;
}

/** The second argument's options of `addEventListener`. */
export interface ListenerOptions {
  capture?: boolean;
  once?: boolean;
  passive?: boolean;
}

/** An event listener: a function, or an object that has one. */
export type Listener = ((event: any) => unknown) | { handleEvent(event: any): unknown };

/** `Event`. */
export type DomEvent = typeof globalThis extends { Event: { prototype: infer T } } ? T : PlainEvent;
/** The class `Event`. */
export type DomEventClass = typeof globalThis extends { Event: infer T } ? T : PlainEventClass;
/** `MessageEvent`. */
export type DomMessageEvent = typeof globalThis extends { MessageEvent: { prototype: infer T } } ? T : PlainMessageEvent;
/** `CloseEvent`. */
export type DomCloseEvent = typeof globalThis extends { CloseEvent: { prototype: infer T } } ? T : PlainCloseEvent;
/** `EventTarget`. */
export type DomEventTarget = typeof globalThis extends { EventTarget: { prototype: infer T } } ? T : PlainEventTarget;
/** The class `EventTarget`. */
export type DomEventTargetClass = typeof globalThis extends { EventTarget: infer T } ? T : PlainEventTargetClass;
/** `Blob`. */
export type DomBlob = typeof globalThis extends { Blob: { prototype: infer T } } ? T : PlainBlob;
/** `URL`. */
export type DomUrl = typeof globalThis extends { URL: { prototype: infer T } } ? T : { readonly href: string };
/** `WebSocket`; where there is none, nothing that this package's class would have to fit. */
export type DomWebSocket = typeof globalThis extends { WebSocket: { prototype: infer T } } ? T : object;

/** What an `on…` attribute takes. */
export type Handler<E> = ((this: DomWebSocket, event: E) => unknown) | null;
