// The stage of the browser tests: real hubs in front of real kitchens, as a deployment has them.

import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { randomBytes } from "node:crypto";

import { Program, freePorts } from "./program.mjs";

const SDK = fileURLToPath(new URL("../../client-sdk-js/dist", import.meta.url));

/** Where our programs are: TIDEGATE_BIN_DIR, or the debug build of this tree. */
const BIN_DIR = process.env.TIDEGATE_BIN_DIR ?? fileURLToPath(new URL("../../target/debug", import.meta.url));

function binary(name) {
  const path = join(BIN_DIR, name);
  if (existsSync(path)) return path;
  throw new Error(`there is no ${path}: build it (cargo build --workspace), or name its directory in TIDEGATE_BIN_DIR`);
}

/** Hubs and kitchens, one of each per name. */
export class Stage {
  #directory;
  #seats = new Map();
  #programs = [];

  /**
   * Starts a hub and a kitchen for each name; the hubs are each other's peers.
   *
   * @param {string[]} names - the names of the kitchens
   */
  static async set(names) {
    if (!existsSync(join(SDK, "index.js"))) throw new Error(`there is no ${SDK}: run npm run build in client-sdk-js`);
    const stage = new Stage();
    stage.#directory = await mkdtemp(join(tmpdir(), "tidegate-browser-"));
    await writeFile(join(stage.#directory, "key"), `${randomBytes(32).toString("hex")}\n`, { mode: 0o600 });
    try {
      const ports = await freePorts(names.length * 2);
      names.forEach((name, at) => {
        const [publicPort, privatePort] = ports.slice(at * 2, at * 2 + 2);
        stage.#seats.set(name, {
          name,
          public: `127.0.0.1:${publicPort}`,
          private: `127.0.0.1:${privatePort}`,
          hubUrl: `ws://127.0.0.1:${publicPort}`,
          privateUrl: `http://127.0.0.1:${privatePort}`,
        });
      });
      for (const name of names) await stage.#startKitchen(stage.#seats.get(name));
      await Promise.all(names.map((name) => stage.startHub(name)));
      await Promise.all(names.map((name) => stage.#peersKnown(name)));
    } catch (why) {
      await stage.clear();
      throw why;
    }
    return stage;
  }

  /**
   * Starts one hub in front of an app that runs already.
   *
   * @param {string} name - the name of the seat
   * @param {string} app - the app's address
   */
  static async before(name, app) {
    const stage = new Stage();
    stage.#directory = await mkdtemp(join(tmpdir(), "tidegate-browser-"));
    const [publicPort, privatePort] = await freePorts(2);
    const hubUrl = `ws://127.0.0.1:${publicPort}`;
    stage.#seats.set(name, { name, app, hubUrl });
    const hub = stage.#start("tidegate", [
      "serve",
      "--public", `127.0.0.1:${publicPort}`,
      "--private", `127.0.0.1:${privatePort}`,
      "--app", `ws://${app}`,
      "--data-dir", join(stage.#directory, "data"),
    ], `hub ${name}`);
    try {
      await hub.ready();
      return stage;
    } catch (why) {
      await stage.clear();
      throw why;
    }
  }

  /** Addresses and programs of one hub and its kitchen. */
  seat(name) {
    return this.#seats.get(name);
  }

  /** Starts the hub of this name; again after it has ended, on the same data directory. */
  async startHub(name) {
    const seat = this.#seats.get(name);
    const others = [...this.#seats.values()].filter((other) => other !== seat);
    seat.hub = this.#start("tidegate", [
      "serve",
      "--public", seat.public,
      "--private", seat.private,
      "--public-url", seat.hubUrl,
      "--app", `ws://${seat.app}`,
      "--app-events", `http://${seat.app}/tidegate/events`,
      "--data-dir", join(this.#directory, `data-${name}`),
      "--cluster-key-file", join(this.#directory, "key"),
      ...(others.length === 0 ? [] : ["--peer-url", seat.privateUrl]),
      ...others.flatMap((other) => ["--peer", other.privateUrl]),
    ], `hub ${name}`);
    await seat.hub.ready();
  }

  /** Runs the trigger against a hub and leaves it running. */
  hook(name, args) {
    return this.#start("tidegate-hook", [...args, "--hub", this.#seats.get(name).privateUrl], `hook ${args[0]}`);
  }

  /** Asks the private API of a hub. */
  async ask(name, path) {
    const response = await fetch(`${this.#seats.get(name).privateUrl}${path}`);
    if (!response.ok) throw new Error(`GET ${path} on hub ${name}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** Ends everything, hubs before the kitchens behind them, and removes what they wrote. */
  async clear() {
    const kitchens = [...this.#seats.values()].map((seat) => seat.kitchen).filter(Boolean);
    const before = this.#programs.filter((program) => !kitchens.includes(program));
    const ends = await Promise.allSettled(before.map((program) => program.stop()));
    ends.push(...(await Promise.allSettled(kitchens.map((program) => program.stop()))));
    await rm(this.#directory, { recursive: true, force: true });
    const failed = ends.find((end) => end.status === "rejected");
    if (failed) throw failed.reason;
  }

  /** What all programs said last, for the message of a failure. */
  get said() {
    return this.#programs.map((program) => program.said).join("\n");
  }

  async #startKitchen(seat) {
    const args = ["--listen", "127.0.0.1:0", "--hub-url", seat.hubUrl, "--name", seat.name, "--sdk", SDK];
    seat.kitchen = this.#start("tidegate-kitchen", args, `kitchen ${seat.name}`);
    const ready = await seat.kitchen.ready();
    seat.app = ready.address;
    seat.page = ready.page;
  }

  /** A drain right after the start must find its successor, so hubs are given the time to meet. */
  async #peersKnown(name) {
    const wanted = this.#seats.size - 1;
    await until(`hub ${name} knows ${wanted} serving peers`, async () => {
      const { peers } = await this.ask(name, "/v1/hub");
      const serving = peers.filter((peer) => peer.state === "serving").length;
      return { done: serving >= wanted, seen: peers };
    });
  }

  #start(name, args, called) {
    const program = new Program(binary(name), args, called);
    this.#programs.push(program);
    return program;
  }
}

/**
 * Asks until it is so, for at most `withinMs`; then fails with what was seen last.
 *
 * @param {string} what - what is waited for, as a sentence
 * @param {() => Promise<{ done: boolean, seen: unknown }>} ask - looks once
 * @param {number} withinMs - in milliseconds
 */
export async function until(what, ask, withinMs = 20_000) {
  const end = Date.now() + withinMs;
  for (;;) {
    const { done, seen } = await ask();
    if (done) return seen;
    if (Date.now() > end) {
      throw new Error(`expected within ${withinMs} ms: ${what}; last seen: ${JSON.stringify(seen)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
