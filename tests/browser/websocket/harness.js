// What the checks stand on. It runs in the page, for the browser's own class and for ours alike.

/** How long a check may wait, in milliseconds. */
const PATIENCE_MS = 20_000;

/** Checks, in the order of their sections: `[section, name, check]`. */
export const checks = [];

/** Begins a section of the standard; what it returns adds a check to it. */
export function section(title) {
  return (name, check) => checks.push([title, name, check]);
}

/** Fails unless both are the same. */
export function same(actual, expected, what = "") {
  if (Object.is(actual, expected)) return;
  throw new Error(`${what === "" ? "" : `${what}: `}${show(actual)}, expected ${show(expected)}`);
}

/** Fails unless both lists have the same members. */
export function sameList(actual, expected, what = "") {
  same(JSON.stringify(actual), JSON.stringify(expected), what);
}

/** Fails unless this throws an error of that name (a DOMException's, or a class of the language). */
export function throws(name, action, what = "") {
  try {
    action();
  } catch (error) {
    return same(error.name, name, what);
  }
  throw new Error(`${what === "" ? "" : `${what}: `}nothing was thrown, expected ${name}`);
}

/** The next event of this type. */
export function event(target, type) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${type} came`)), PATIENCE_MS);
    target.addEventListener(type, (it) => {
      clearTimeout(late);
      resolve(it);
    }, { once: true });
  });
}

/** A turn of the page's event loop later. */
export function turn() {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** What a check works with: the class, and addresses. */
class Stand {
  constructor(Socket, base) {
    this.Socket = Socket;
    this.base = base;
    this.sockets = [];
  }

  /** A new socket, still CONNECTING. */
  make(path = "/echo", ...rest) {
    return this.at(`${this.base}${path}`, ...rest);
  }

  /** A new socket to any address. It is closed when its check is over: a browser delays others to the same host. */
  at(url, ...rest) {
    const socket = new this.Socket(url, ...rest);
    this.sockets.push(socket);
    return socket;
  }

  /** A socket that is OPEN. */
  async open(path = "/echo", ...rest) {
    const socket = this.make(path, ...rest);
    await event(socket, "open");
    return socket;
  }

  /** What comes back for what is sent. */
  async echo(socket, data) {
    const answer = event(socket, "message");
    socket.send(data);
    return (await answer).data;
  }
}

/** Runs all checks, one after the other, and says of each what was wrong, or null. */
export async function run(Socket, base) {
  const results = [];
  for (const [title, name, check] of checks) {
    const stand = new Stand(Socket, base);
    let why = null;
    try {
      await check(stand);
    } catch (error) {
      why = String(error?.message ?? error);
    }
    for (const socket of stand.sockets) {
      try {
        socket.close();
      } catch {
        // It is the checks' business whether it may.
      }
    }
    results.push({ check: `${title}: ${name}`, why });
  }
  return JSON.stringify(results);
}

function show(value) {
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}
