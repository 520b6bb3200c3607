/** The URL that the application gives, and the URLs that a hub may send it to. */
import type { DomUrl } from "./dom.js";
import type { Place, Rules } from "./state.js";

/** A URL or subprotocol that a browser's constructor would refuse, in words. */
export class BadAddress extends Error {}

/**
 * Normalises the constructor's URL as a browser does.
 *
 * @param url - absolute, or relative where there is a page
 * @param base - the page's address, if there is one
 * @throws BadAddress for what is not a URL, has another scheme, or a fragment
 */
export function normalise(url: string | DomUrl, base: string | undefined): string {
  // A template, not String(): it refuses a Symbol, as a browser does.
  const text = `${url as string}`;
  let parsed: URL;
  try {
    parsed = new URL(text, base);
  } catch {
    throw new BadAddress(`The URL '${text}' is invalid.`);
  }
  if (parsed.protocol === "http:") parsed.protocol = "ws:";
  if (parsed.protocol === "https:") parsed.protocol = "wss:";
  if (parsed.protocol !== "ws:" && parsed.protocol !== "wss:") {
    throw new BadAddress(`The URL's scheme must be ws, wss, http or https, not '${parsed.protocol.slice(0, -1)}'.`);
  }
  // A bare '#' counts too: its fragment is empty, but it is there.
  if (parsed.hash !== "" || parsed.href.includes("#")) {
    throw new BadAddress(`The URL '${parsed.href}' contains a fragment; a WebSocket URL must not.`);
  }
  return parsed.href;
}

/**
 * Checks the constructor's subprotocols as a browser does.
 *
 * @param protocols - a list, or anything else that is made one string
 * @throws BadAddress for one that is no token, or comes twice
 */
export function checkProtocols(protocols: unknown): readonly string[] {
  const list = isIterable(protocols) ? [...protocols].map(text) : protocols === undefined ? [] : [text(protocols)];
  const seen = new Set<string>();
  for (const protocol of list) {
    if (!/^[!#$%&\x27*+\-.^_\x60|~0-9A-Za-z]+$/.test(protocol)) {
      throw new BadAddress(`The subprotocol '${protocol}' is invalid: it must be an HTTP token.`);
    }
    if (seen.has(protocol)) throw new BadAddress(`The subprotocol '${protocol}' is duplicated.`);
    seen.add(protocol);
  }
  return list;
}

function isIterable(value: unknown): value is Iterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.iterator in value;
}

function text(value: unknown): string {
  return `${value as string}`;
}

/**
 * The origin of an address, or null for what is none.
 *
 * @param url - absolute
 */
export function originOf(url: string): string | null {
  try {
    return new URL(url).origin;
  } catch {
    return null;
  }
}

/**
 * The place that a `move` names: its URL, or null where the application's own is to be used.
 *
 * @param url - the move's own, if it has one
 * @param barred - origins that this page may not connect to
 * @param rules - the application's URL, and the host names that it allows
 */
export function placeOf(url: string | undefined, barred: readonly string[], rules: Pick<Rules, "home" | "allowHosts">): Place {
  if (url === undefined) return null;
  const target = moveTarget(url, rules.home, rules.allowHosts);
  if (target === rules.home || barred.includes(new URL(target).origin)) return null;
  return url;
}

/**
 * Where a `move` leads. A URL that is refused (from `wss` to `ws`, or to a host name that the
 * application did not allow) or makes no sense is passed over for the one the application gave.
 *
 * @param url - the move's own, if it has one
 * @param home - the application's, normalised
 * @param allowHosts - host names allowed besides the home URL's, or all
 */
export function moveTarget(url: string | undefined, home: string, allowHosts: readonly string[] | "any"): string {
  if (url === undefined) return home;
  let target: URL;
  try {
    target = new URL(normalise(url, undefined));
  } catch {
    return home;
  }
  const known = new URL(home);
  if (known.protocol === "wss:" && target.protocol !== "wss:") return home;
  if (target.hostname !== known.hostname && allowHosts !== "any" && !allowHosts.includes(target.hostname)) return home;
  // A hub's public URL often names the hub alone; path and query belong to the session.
  if (target.pathname === "/" && target.search === "") {
    target.pathname = known.pathname;
    target.search = known.search;
  }
  return target.href;
}
