/** The global `WebSocket`, which a page may replace by `TidegateSocket`. Nothing of ours is loaded before it stands there. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, it } from "node:test";
import WebSocket from "ws";
import type { TidegateSocket } from "../src/index.js";
import { Hub, once } from "./hub.js";

const page = globalThis as { WebSocket?: unknown };
let hub: Hub;

beforeEach(async () => {
  hub = await Hub.start();
});

afterEach(async () => {
  await hub.stop();
});

async function opens(create: typeof TidegateSocket, options?: { WebSocket: typeof TidegateSocket }): Promise<void> {
  const socket = new create(hub.url, [], options);
  await (await hub.visit()).welcome();
  await once(socket, "open");
  socket.close();
}

it("may be TidegateSocket: underneath is what stood there when the package was loaded", async () => {
  page.WebSocket = WebSocket;
  const first = (await import("../src/index.js")).TidegateSocket;
  page.WebSocket = first;
  await opens(first);
  page.WebSocket = first.with({ language: "en" });
  await opens(first);
  await opens(first, { WebSocket: first });
  // A second copy of the package, as two bundles of one page have it, finds the native class behind the first.
  const copy = new URL("../src/world.js?copy", import.meta.url).href;
  const { nativeWebSocket } = (await import(copy)) as typeof import("../src/world.js");
  assert.equal(nativeWebSocket(), WebSocket);
});
