// Two hubs, each in front of a kitchen of its own, as a deployment has them on two instances.

import { existsSync } from "node:fs";
import { mkdtemp, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Guard, Program, freePorts, pause } from "./program.mjs";

/** How long the hubs may take to know each other, in milliseconds. */
const MEET_MS = 20_000;

/** One instance: a hub and the kitchen behind it. */
class Seat {
  constructor(name, publicPort, privatePort) {
    this.name = name;
    this.public = `127.0.0.1:${publicPort}`;
    this.private = `127.0.0.1:${privatePort}`;
    this.hubUrl = `ws://${this.public}`;
    this.privateUrl = `http://${this.private}`;
  }

  /** Asks the private API; null for 404. */
  async ask(path) {
    const response = await fetch(`${this.privateUrl}${path}`);
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`GET ${path} at hub ${this.name}: ${response.status} ${await response.text()}`);
    return response.json();
  }
}

/** Everything that the demo starts. */
export class Fleet {
  #directory;
  #guard;
  #binaries;
  #sdk;
  #programs = [];
  #isEnding = false;

  /**
   * @param {string} binaries - the directory of our programs
   * @param {string} sdk - the directory of the built SDK
   */
  constructor(binaries, sdk) {
    this.#binaries = binaries;
    this.#sdk = sdk;
    this.seats = [];
  }

  /** Starts two kitchens and two hubs, and waits until the hubs know each other. */
  async start() {
    this.#directory = await mkdtemp(join(tmpdir(), "tidegate-demo-"));
    this.#guard = new Guard(this.#directory);
    await writeFile(join(this.#directory, "cluster.key"), `${randomBytes(32).toString("hex")}\n`, { mode: 0o600 });
    const ports = await freePorts(4);
    this.seats = [new Seat("A", ports[0], ports[1]), new Seat("B", ports[2], ports[3])];
    await Promise.all(this.seats.map((seat) => this.#startKitchen(seat)));
    await Promise.all(this.seats.map((seat) => this.#startHub(seat)));
    await Promise.all(this.seats.map((seat) => this.#meets(seat)));
    return this.seats;
  }

  /** Starts one more program of ours. */
  run(name, args, options) {
    if (this.#isEnding) throw new Error("the demo is ending");
    const path = this.path(name);
    if (!existsSync(path)) throw new Error(`there is no ${path}: run \`make demo\`, which builds it`);
    const program = new Program(this.#guard, options?.called ?? name, path, args, options);
    this.#programs.push(program);
    return program;
  }

  /** Where a program of ours is. */
  path(name) {
    return join(this.#binaries, name);
  }

  /** A hub or kitchen that has ended although nobody asked it to. */
  get fallen() {
    return this.seats.flatMap(({ hub, kitchen }) => [hub, kitchen]).find((program) => program?.isOver);
  }

  /** What all programs said last. */
  get said() {
    return this.#programs.map(({ said }) => said).filter(Boolean).join("\n");
  }

  /** Ends everything: who uses hubs, then hubs, then the kitchens behind them. */
  async stop() {
    this.#isEnding = true;
    const hubs = this.seats.map(({ hub }) => hub).filter(Boolean);
    const kitchens = this.seats.map(({ kitchen }) => kitchen).filter(Boolean);
    const others = this.#programs.filter((program) => !hubs.includes(program) && !kitchens.includes(program));
    for (const group of [others, hubs, kitchens]) await Promise.all(group.map((program) => program.stop()));
    await this.#guard?.release();
  }

  async #startKitchen(seat) {
    const args = ["--listen", "127.0.0.1:0", "--hub-url", seat.hubUrl, "--name", seat.name, "--sdk", this.#sdk];
    seat.kitchen = this.run("tidegate-kitchen", args, { called: `kitchen ${seat.name}` });
    const { address, page } = await seat.kitchen.ready();
    seat.app = address;
    seat.page = page;
  }

  async #startHub(seat) {
    const other = this.seats.find((one) => one !== seat);
    seat.hub = this.run("tidegate", [
      "serve",
      "--public", seat.public,
      "--private", seat.private,
      "--public-url", seat.hubUrl,
      "--app", `ws://${seat.app}`,
      "--app-events", `http://${seat.app}/tidegate/events`,
      "--peer", other.privateUrl,
      "--peer-url", seat.privateUrl,
      "--cluster-key-file", join(this.#directory, "cluster.key"),
      "--stop-deadline", "5s",
      "--data-dir", join(this.#directory, `hub-${seat.name}`),
    ], { called: `hub ${seat.name}` });
    await seat.hub.ready();
  }

  async #meets(seat) {
    const until = Date.now() + MEET_MS;
    for (;;) {
      const { peers } = await seat.ask("/v1/hub");
      if (peers.some((peer) => peer.state === "serving")) return;
      if (Date.now() > until) {
        throw new Error(`hub ${seat.name} knew no serving peer within ${MEET_MS} ms: ${JSON.stringify(peers)}`);
      }
      await pause(50);
    }
  }
}
