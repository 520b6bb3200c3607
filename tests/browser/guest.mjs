// A guest: the kitchen's page in a real browser, and the hands and eyes on it.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";

import { until } from "./stage.mjs";

/** Where distributions put it, and TIDEGATE_CHROMIUM before that. */
const CHROMIUM = [
  process.env.TIDEGATE_CHROMIUM,
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome-stable",
  "/usr/bin/google-chrome",
];

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Starts the browser. One that is missing is a failure: these tests are never skipped. */
export async function startBrowser() {
  const executablePath = CHROMIUM.find((path) => path && existsSync(path));
  if (executablePath === undefined) {
    throw new Error(`no Chromium at ${CHROMIUM.filter(Boolean).join(", ")}: install it (apt-get install chromium), ` +
      "or name it in TIDEGATE_CHROMIUM");
  }
  // The SDK's package has playwright-core among its development dependencies; one lock file is enough.
  const require = createRequire(new URL("../../client-sdk-js/package.json", import.meta.url));
  const { chromium } = require("playwright-core");
  return chromium.launch({ executablePath, headless: true, args: FLAGS });
}

/** One page of the kitchen. */
export class Guest {
  #faults = [];

  /**
   * Opens the page and waits until it is served.
   *
   * @param {import("playwright-core").Browser} browser - where
   * @param {string} url - the page
   * @param {string} name - how failures call this guest
   */
  static async arrive(browser, url, name = "guest") {
    const guest = new Guest();
    guest.name = name;
    guest.context = await browser.newContext();
    guest.page = await guest.context.newPage();
    guest.page.on("pageerror", (why) => guest.#faults.push(`page error: ${why.stack ?? why.message}`));
    guest.page.on("console", (line) => {
      if (line.type() === "error") guest.#faults.push(`console: ${line.text()}`);
    });
    await guest.page.goto(url);
    await until(`${name} is connected and served by a kitchen`, async () => {
      const state = await guest.#attribute("connection-state", "data-state");
      const kitchen = await guest.kitchen();
      const done = state === "connected" && kitchen !== "";
      return { done, seen: { state, kitchen, trouble: await guest.trouble(), faults: guest.#faults } };
    });
    return guest;
  }

  /** Leaves, and fails if the page ever met an error. */
  async leave(allowed = /(?!)/) {
    await this.context.close();
    const faults = this.#faults.filter((fault) => !allowed.test(fault));
    assert.deepEqual(faults, [], `the page of ${this.name} met errors`);
  }

  /** Types an order and sends it. */
  async orders(text) {
    await this.#part("order-input").fill(text);
    await this.#part("order-submit").click();
  }

  /** Types without sending. */
  async types(text) {
    await this.#part("order-input").pressSequentially(text, { delay: 20 });
  }

  /** Sends what was typed. */
  async sends() {
    await this.#part("order-input").press("Enter");
  }

  /** The tickets on the board, by number: `{ id, state, order }`. */
  async tickets() {
    const tickets = await this.#part("ticket").evaluateAll((items) => items.map((item) => ({
      id: Number(item.dataset.ticketId),
      state: item.dataset.state,
      order: item.querySelector(".dish").textContent,
    })));
    return tickets.sort((one, other) => one.id - other.id);
  }

  /** The numbers and orders on the board: what must be the same after a move. */
  async orderList() {
    return (await this.tickets()).map(({ id, order }) => `${id} ${order}`);
  }

  /** The name of the kitchen that serves this page. */
  async kitchen() {
    return (await this.#attribute("served-by", "data-kitchen")) ?? "";
  }

  /** The id of the hub that serves this page. */
  async hub() {
    return (await this.#attribute("served-by", "data-hub")) ?? "";
  }

  /** What the notice says, or null while there is none. */
  async notice() {
    const notice = this.#part("notice");
    return (await notice.isVisible()) ? notice.innerText() : null;
  }

  /** The last toast, or null while there is none. */
  async toast() {
    const toast = this.#part("toast");
    return (await toast.isVisible()) ? toast.innerText() : null;
  }

  /** What the page says of trouble, or null. */
  async trouble() {
    const trouble = this.#part("trouble");
    return (await trouble.isVisible()) ? trouble.innerText() : null;
  }

  /** Waits until something that can be seen is as expected: equal, or matching a pattern. */
  async sees(what, look, expected, withinMs = 20_000) {
    return until(`${this.name} ${what} (${expected})`, async () => {
      const seen = await look();
      const done = expected instanceof RegExp ? expected.test(seen ?? "") : same(seen, expected);
      return { done, seen };
    }, withinMs);
  }

  #part(testId) {
    return this.page.getByTestId(testId);
  }

  async #attribute(testId, name) {
    return this.#part(testId).getAttribute(name);
  }
}

function same(seen, expected) {
  return JSON.stringify(seen) === JSON.stringify(expected);
}
