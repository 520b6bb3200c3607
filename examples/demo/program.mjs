// Child processes with an end. Each runs in a process group of its own, so that Ctrl-C reaches the
// demo alone and it can end them in the right order; a guard ends them if the demo itself is killed.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** How long a program may take to end after SIGTERM, in milliseconds. */
const END_MS = 20_000;
/** How much of what a program says is kept for the story of a failure, in lines. */
const LINES_KEPT = 30;

/** Ends what is still there when this process is gone, however it went. */
export class Guard {
  #child;
  #gone;

  /** @param {string} directory - removed in the end */
  constructor(directory) {
    const script = fileURLToPath(new URL("guard.mjs", import.meta.url));
    this.#child = spawn(process.execPath, [script, directory], { stdio: ["pipe", "ignore", "ignore"], detached: true });
    this.#gone = new Promise((resolve) => this.#child.once("close", resolve));
    // A guard that could not be started, or was killed, is missed only by who is killed too.
    this.#child.once("error", () => {});
    this.#child.stdin.on("error", () => {});
  }

  /** Watches over a process. */
  watch(pid) {
    this.#child.stdin.write(`+${pid}\n`);
  }

  /** This process has ended. */
  forget(pid) {
    this.#child.stdin.write(`-${pid}\n`);
  }

  /** Lets the guard go, once everything has ended; it removes the directory. */
  async release() {
    this.#child.stdin.end();
    await this.#gone;
  }
}

/** A running program. */
export class Program {
  #child;
  #said = [];
  #json = null;
  #wake = [];

  /**
   * Starts a program.
   *
   * @param {Guard} guard - who watches over it
   * @param {string} name - how it is called in what people read
   * @param {string} path - the binary
   * @param {string[]} args - its arguments
   * @param {{ stdio?: unknown[], onLine?: (line: string) => void }} options - `onLine` hears its stderr
   */
  constructor(guard, name, path, args, { stdio = ["ignore", "pipe", "pipe"], onLine = () => {} } = {}) {
    this.name = name;
    /** Whether it has ended. */
    this.isOver = false;
    // Settings of whoever runs the demo must not steer it.
    const { PATH, HOME, USER, TERM } = process.env;
    this.#child = spawn(path, args, { env: { PATH, HOME, USER, TERM }, stdio, detached: true });
    const { pid, stdout, stderr } = this.#child;
    if (pid !== undefined) guard.watch(pid);
    if (stdout !== null) createInterface({ input: stdout }).on("line", (line) => this.#printed(line));
    if (stderr !== null) {
      createInterface({ input: stderr }).on("line", (line) => {
        this.#keep(line);
        onLine(line);
      });
    }
    /** Its exit code, or the name of the signal that ended it; null if it could not be started. */
    this.ended = new Promise((resolve) => {
      this.#child.once("error", (why) => {
        this.#keep(`cannot start ${path}: ${why.message}`);
        this.#over(resolve, null);
      });
      // `close`, not `exit`: by then everything it wrote has been read.
      this.#child.once("close", (code, signal) => {
        if (pid !== undefined) guard.forget(pid);
        this.#over(resolve, code ?? signal);
      });
    });
  }

  /** The last lines that it said. */
  get said() {
    return this.#said.map((line) => `  ${this.name}: ${line}`).join("\n");
  }

  /** The last line of JSON on its stdout, or null. */
  get json() {
    return this.#json;
  }

  /**
   * Waits for the line of JSON on stdout that says `event: ready`, and returns it.
   *
   * @param {number} withinMs - in milliseconds
   */
  async ready(withinMs = 20_000) {
    const until = Date.now() + withinMs;
    while (this.#json?.event !== "ready") {
      const left = until - Date.now();
      if (this.isOver) throw new Error(`${this.name} ended before it was ready`);
      if (left <= 0) throw new Error(`${this.name} was not ready within ${withinMs} ms`);
      await Promise.race([new Promise((wake) => this.#wake.push(wake)), pause(left)]);
    }
    return this.#json;
  }

  /** Ends it as a service manager does, and by force when it does not obey. */
  async stop() {
    if (!this.isOver) this.#child.kill("SIGTERM");
    const force = setTimeout(() => this.#child.kill("SIGKILL"), END_MS);
    await this.ended;
    clearTimeout(force);
  }

  #over(resolve, result) {
    this.isOver = true;
    this.#wake.splice(0).forEach((wake) => wake());
    resolve(result);
  }

  #printed(line) {
    this.#keep(line);
    if (!line.startsWith("{")) return;
    try {
      this.#json = JSON.parse(line);
    } catch {
      return;
    }
    this.#wake.splice(0).forEach((wake) => wake());
  }

  #keep(line) {
    this.#said.push(line);
    if (this.#said.length > LINES_KEPT) this.#said.shift();
  }
}

/** Finds that many ports that are free now. Hubs that name each other need them before they start. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer());
  const bound = servers.map((server) => new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(server.address().port));
  }));
  const ports = await Promise.all(bound);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** A moment; its timer keeps nothing alive. */
export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
