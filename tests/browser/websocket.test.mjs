// The WebSocket interface by the standard's sections, with the browser's own class and with TidegateSocket, in
// Chromium and in Firefox. What differs is written down in websocket/differences.mjs, and nothing else may.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Firefox } from "./firefox.mjs";
import { startBrowser } from "./guest.mjs";
import { Stage } from "./stage.mjs";
import { NATIVE, OURS } from "./websocket/differences.mjs";
import { expression, startServer } from "./websocket/stage.mjs";

/** How many checks there are at the least: a module that did not load would have none. */
const CHECKS_MIN = 150;

const BROWSERS = {
  async chromium() {
    const browser = await startBrowser();
    return {
      async evaluate(url, code) {
        const page = await browser.newPage();
        await page.goto(url);
        return page.evaluate(code);
      },
      close: () => browser.close(),
    };
  },
  async firefox() {
    const browser = await Firefox.start();
    return {
      evaluate: async (url, code) => browser.evaluate(await browser.open(url), code),
      close: () => browser.close(),
    };
  },
};

let server;
let stage;

before(async () => {
  server = await startServer();
  stage = await Stage.before("checks", server.address);
});

after(async () => {
  await stage?.clear();
  await server?.stop();
});

for (const [name, start] of Object.entries(BROWSERS)) {
  describe(`in ${name}`, () => {
    let browser;
    before(async () => {
      browser = await start();
    });
    after(() => browser?.close());

    test("the browser's own class passes every check, but for what is written down", async () => {
      await passes(browser, "native", `ws://${server.address}`, NATIVE[name]);
    });

    test("TidegateSocket passes every check, but for what is written down", async () => {
      await passes(browser, "ours", stage.seat("checks").hubUrl, { ...OURS.everywhere, ...OURS[name] });
    });
  });
}

async function passes(browser, whose, base, differences) {
  const results = JSON.parse(await browser.evaluate(`http://${server.address}/`, expression(whose, base)));
  assert.ok(results.length >= CHECKS_MIN, `${results.length} checks were run`);
  const names = new Set(results.map(({ check }) => check));
  assert.equal(names.size, results.length, "no two checks have one name");
  const failed = results.filter(({ why }) => why !== null);
  const unexpected = failed.filter(({ check }) => !(check in differences)).map(({ check, why }) => `${check}: ${why}`);
  assert.deepEqual(unexpected, [], "these checks failed");
  const stale = Object.keys(differences).filter((check) => !failed.some((one) => one.check === check));
  assert.deepEqual(stale, [], "these differences are no more");
}
