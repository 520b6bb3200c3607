// Firefox as Debian has it, driven by WebDriver BiDi: the protocol that it speaks by itself, over one WebSocket.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Where distributions put it, and TIDEGATE_FIREFOX before that. */
const FIREFOX = [process.env.TIDEGATE_FIREFOX, "/usr/bin/firefox-esr", "/usr/bin/firefox"];

/** How long the browser may take until it listens, and until it has ended, in milliseconds. */
const READY_MS = 60_000;
const END_MS = 20_000;

/** No first-run pages, no traffic of its own, and proxies never. */
const PREFERENCES = {
  "app.update.enabled": false,
  "browser.shell.checkDefaultBrowser": false,
  "browser.startup.page": 0,
  "browser.safebrowsing.malware.enabled": false,
  "browser.safebrowsing.phishing.enabled": false,
  "browser.search.update": false,
  "datareporting.policy.dataSubmissionEnabled": false,
  "extensions.update.enabled": false,
  "network.captive-portal-service.enabled": false,
  "network.connectivity-service.enabled": false,
  "network.proxy.type": 0,
  "remote.active-protocols": 1,
  "remote.prefs.recommended": true,
  "toolkit.telemetry.reportingpolicy.firstRun": false,
};

/** A running Firefox with the little of BiDi that the tests need. */
export class Firefox {
  #child;
  #profile;
  #socket;
  #next = 1;
  #waiting = new Map();

  /** Starts it. One that is missing is a failure: these tests are never skipped. */
  static async start() {
    const path = FIREFOX.find((one) => one && existsSync(one));
    if (path === undefined) {
      throw new Error(`no Firefox at ${FIREFOX.filter(Boolean).join(", ")}: install it (apt-get install firefox-esr), ` +
        "or name it in TIDEGATE_FIREFOX");
    }
    const firefox = new Firefox();
    try {
      await firefox.#launch(path);
      return firefox;
    } catch (why) {
      await firefox.close();
      throw why;
    }
  }

  /** A new page at this address, loaded. Returns its id. */
  async open(url) {
    const { context } = await this.#ask("browsingContext.create", { type: "tab" });
    await this.#ask("browsingContext.navigate", { context, url, wait: "complete" });
    return context;
  }

  /** What this expression comes to in the page; it may be a promise, and must be a text. */
  async evaluate(page, expression) {
    const answer = await this.#ask("script.evaluate", { expression, target: { context: page }, awaitPromise: true });
    if (answer.type === "exception") throw new Error(`in Firefox: ${answer.exceptionDetails.text}`);
    return answer.result.value;
  }

  /** Ends it and removes its profile. */
  async close() {
    this.#socket?.close();
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGTERM");
      const force = setTimeout(() => child.kill("SIGKILL"), END_MS);
      await ended;
      clearTimeout(force);
    }
    if (this.#profile !== undefined) await rm(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }

  async #launch(path) {
    this.#profile = await mkdtemp(join(tmpdir(), "tidegate-firefox-"));
    const lines = Object.entries(PREFERENCES).map(([name, value]) => `user_pref(${JSON.stringify(name)}, ${JSON.stringify(value)});`);
    await writeFile(join(this.#profile, "user.js"), lines.join("\n"));
    const args = ["--headless", "--no-remote", "--profile", this.#profile, "--remote-debugging-port", "0"];
    // Its home too is the profile: nothing of whoever runs the tests is read or written.
    const env = { PATH: process.env.PATH, HOME: this.#profile, MOZ_HEADLESS: "1" };
    this.#child = spawn(path, args, { env, stdio: ["ignore", "ignore", "pipe"] });
    await this.#connect(await this.#address());
    await this.#ask("session.new", { capabilities: {} });
  }

  /** Where it listens: it says so on stderr. */
  #address() {
    const said = [];
    return new Promise((resolve, reject) => {
      const fail = (why) => reject(new Error(`Firefox did not get ready: ${why}\n${said.slice(-20).join("\n")}`));
      const late = setTimeout(() => fail(`it did not listen within ${READY_MS} ms`), READY_MS);
      this.#child.once("error", (why) => fail(why.message));
      this.#child.once("close", (code, signal) => fail(`it ended with ${code ?? signal}`));
      createInterface({ input: this.#child.stderr }).on("line", (line) => {
        said.push(line);
        const found = /WebDriver BiDi listening on (ws:\/\/\S+)/.exec(line);
        if (found === null) return;
        clearTimeout(late);
        resolve(found[1]);
      });
    });
  }

  async #connect(address) {
    const require = createRequire(new URL("../../client-sdk-js/package.json", import.meta.url));
    const WebSocket = require("ws");
    this.#socket = new WebSocket(`${address}/session`);
    this.#socket.on("message", (text) => this.#heard(JSON.parse(text)));
    await new Promise((resolve, reject) => {
      this.#socket.once("open", resolve);
      this.#socket.once("error", reject);
    });
    this.#socket.once("close", () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("Firefox closed its connection"));
      this.#waiting.clear();
    });
  }

  #ask(method, params) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }

  #heard({ id, type, result, error, message }) {
    const asked = this.#waiting.get(id);
    if (asked === undefined) return;
    this.#waiting.delete(id);
    if (type === "success") asked.resolve(result);
    else asked.reject(new Error(`Firefox: ${error}: ${message}`));
  }
}
