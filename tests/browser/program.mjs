// Child processes with an end: started, waited for until they are ready, and never left behind.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { createInterface } from "node:readline";

/** How long a program may take until it says that it is ready, in milliseconds. */
const READY_MS = 20_000;
/** How long a program may take to end after SIGTERM, in milliseconds. */
const END_MS = 30_000;
/** How much of what a program says is kept for a failure's message, in lines. */
const LINES_KEPT = 60;

/** A running program of ours. */
export class Program {
  #child;
  #said = [];
  #lines = [];
  #waiting = [];
  #ended;

  /**
   * Starts a program.
   *
   * @param {string} path - the binary
   * @param {string[]} args - its arguments
   * @param {string} name - how failures call it
   */
  constructor(path, args, name) {
    this.name = name;
    // The environment of whoever runs the tests must not steer what is tested.
    const env = { PATH: process.env.PATH, HOME: process.env.HOME };
    this.#child = spawn(path, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of ["stdout", "stderr"]) {
      createInterface({ input: this.#child[stream] }).on("line", (line) => this.#heard(stream, line));
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", (why) => {
        this.#said.push(`cannot start ${path}: ${why.message}`);
        resolve(null);
      });
      // `close`, not `exit`: by then everything it wrote has been read.
      this.#child.once("close", (code, signal) => resolve(code ?? signal));
    });
    void this.#ended.then(() => this.#waiting.splice(0).forEach((wake) => wake()));
  }

  /** The first JSON line on stdout, which our programs print when they are ready. */
  async ready() {
    const until = Date.now() + READY_MS;
    while (this.#lines.length === 0) {
      const left = until - Date.now();
      if (left <= 0 || this.isOver) throw new Error(`${this.name} did not get ready:\n${this.said}`);
      await Promise.race([new Promise((wake) => this.#waiting.push(wake)), pause(left)]);
    }
    return JSON.parse(this.#lines[0]);
  }

  /** Whether it has ended. */
  get isOver() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined;
  }

  /** The last lines that it said, on both streams. */
  get said() {
    return this.#said.join("\n");
  }

  /** Waits for its end by itself and returns the exit code, or the signal's name. */
  async end(withinMs) {
    const code = await Promise.race([this.#ended, pause(withinMs).then(() => undefined)]);
    if (code === undefined) throw new Error(`${this.name} did not end within ${withinMs} ms:\n${this.said}`);
    return code;
  }

  /** Ends it as a service manager does, and by force when it does not obey. Returns the exit code. */
  async stop() {
    if (!this.isOver) this.#child.kill("SIGTERM");
    try {
      return await this.end(END_MS);
    } catch (why) {
      this.#child.kill("SIGKILL");
      throw why;
    }
  }

  #heard(stream, line) {
    this.#said.push(`${this.name} ${stream}: ${line}`);
    if (this.#said.length > LINES_KEPT) this.#said.shift();
    if (stream !== "stdout") return;
    if (this.#lines.length === 0) this.#lines.push(line);
    this.#waiting.splice(0).forEach((wake) => wake());
  }
}

/** Finds that many ports that are free now. Programs that name each other need them before they start. */
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

/** A moment; the timer does not keep the process alive. */
function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms).unref());
}
