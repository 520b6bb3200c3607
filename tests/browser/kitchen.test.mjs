// What people see of a deployment: the kitchen's page in a real browser, in front of real hubs.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Guest, startBrowser } from "./guest.mjs";
import { Stage, until } from "./stage.mjs";

const TEXT = "The kitchen is being renewed. Please finish what you are doing.";

/** A browser says so on its console when a server it was connected to goes away; that is the point of the test. */
const LOST_CONNECTION = /WebSocket connection to/;

let browser;

before(async () => {
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
});

/** Runs a test on a stage of its own; a failure tells what the programs said. */
function onStage(name, kitchens, play) {
  test(name, { timeout: 150_000 }, async () => {
    const stage = await Stage.set(kitchens);
    let failure = null;
    try {
      await play(stage);
    } catch (why) {
      why.message += `\n--- what the programs said last ---\n${stage.said}`;
      failure = why;
    }
    // What failed first is what matters; an end that fails counts only without it.
    await stage.clear().catch((why) => (failure ??= why));
    if (failure !== null) throw failure;
  });
}

onStage("a page that is moved keeps its tickets, and nobody is moved while typing", ["A", "B"], async (stage) => {
  const typist = await Guest.arrive(browser, stage.seat("A").page, "the typist");
  const idler = await Guest.arrive(browser, stage.seat("A").page, "the idler");
  assert.equal(await typist.kitchen(), "A");
  for (const dish of ["tart", "curry", "pasta"]) await typist.orders(dish);
  await idler.orders("soup");
  await typist.sees("sees three tickets", () => typist.orderList(), ["1 tart", "2 curry", "3 pasta"]);
  await idler.sees("sees one ticket", () => idler.orderList(), ["1 soup"]);

  const hook = stage.hook("A", drain({ notice: "3s", window: "2s", settle: "5s", deadline: "60s" }));
  await typist.sees("is given notice", () => typist.notice(), new RegExp(TEXT));
  await idler.sees("is given notice", () => idler.notice(), new RegExp(TEXT));
  await typist.types("rhubarb");
  await typist.sees("is told that the service waits", () => typist.notice(), /writing an order/);

  await idler.sees("is moved", () => idler.kitchen(), "B", 30_000);
  await idler.sees("is told so", () => idler.toast(), /moved to kitchen B\. 1 ticket came along/);
  assert.deepEqual(await idler.orderList(), ["1 soup"]);
  assert.equal(await typist.kitchen(), "A", "the one who types is still where he was");
  assert.match(await typist.notice(), /writing an order/);

  await typist.types(" crumble");
  await typist.sends();
  await typist.sees("is moved once the order is sent", () => typist.kitchen(), "B", 30_000);
  await typist.sees("is told so", () => typist.toast(), /moved to kitchen B\. \d tickets came along/);
  assert.equal(await typist.notice(), null, "the notice is gone with the drain");
  await typist.sees("sees all tickets, the last one once", () => typist.orderList(),
    ["1 tart", "2 curry", "3 pasta", "4 rhubarb crumble"]);

  assert.equal(await hook.end(60_000), 0, `the trigger reports success:\n${hook.said}`);
  await cookedThrough(typist, 4);
  await typist.orders("bread");
  await typist.sees("orders on as before", () => typist.orderList().then((list) => list.at(-1)), "5 bread");

  const report = await stage.ask("A", "/v1/drain/report");
  assert.equal(report.sessions.moved, 2, JSON.stringify(report));
  assert.equal(report.messages.lost, 0, JSON.stringify(report));
  assert.ok(report.clients.busy >= 1, `the hub heard that somebody was busy: ${JSON.stringify(report.clients)}`);
  assert.notEqual(await typist.hub(), "", "the page shows its hub");
  await typist.leave();
  await idler.leave();
});

onStage("a drain that is called off is recalled on the page, and all goes on as before", ["A", "B"], async (stage) => {
  const guest = await Guest.arrive(browser, stage.seat("A").page);
  await guest.orders("tart");
  await guest.sees("sees the ticket", () => guest.orderList(), ["1 tart"]);
  const hook = stage.hook("A", drain({ notice: "40s", window: "5s", settle: "5s", deadline: "90s" }));
  await guest.sees("is given notice", () => guest.notice(), new RegExp(TEXT));

  const cancel = stage.hook("A", ["cancel"]);
  assert.equal(await cancel.end(20_000), 0, cancel.said);
  await guest.sees("is told that it was called off", () => guest.toast(), /called off/);
  assert.equal(await guest.notice(), null, "the notice is gone");
  assert.equal(await hook.end(20_000), 4, `the trigger says that somebody else cancelled:\n${hook.said}`);

  assert.equal(await guest.kitchen(), "A");
  await guest.orders("soup");
  await guest.sees("orders on", () => guest.orderList(), ["1 tart", "2 soup"]);
  await cookedThrough(guest, 2);
  await guest.leave();
});

onStage("one hub alone parks the page's session, and the next process takes it up", ["A"], async (stage) => {
  const guest = await Guest.arrive(browser, stage.seat("A").page);
  for (const dish of ["tart", "curry", "pasta"]) await guest.orders(dish);
  await guest.sees("sees the tickets", () => guest.orderList(), ["1 tart", "2 curry", "3 pasta"]);
  const hook = stage.hook("A", drain({ notice: "1s", window: "1s", settle: "2s", deadline: "30s" }));
  assert.equal(await hook.end(60_000), 0, `parked is a success:\n${hook.said}`);
  assert.equal(await stage.seat("A").hub.stop(), 0, "the hub ends well");

  // While nobody serves the page it takes orders; they are on their way and nothing else.
  await guest.orders("soup");
  assert.equal(await guest.page.getByTestId("ticket-pending").count(), 1, "the order stands there as not yet written");

  await stage.startHub("A");
  await guest.sees("comes back with all tickets, the one on its way included", () => guest.orderList(),
    ["1 tart", "2 curry", "3 pasta", "4 soup"], 60_000);
  assert.equal(await guest.page.getByTestId("ticket-pending").count(), 0);
  assert.equal(await guest.trouble(), null, "there was no reset");
  await cookedThrough(guest, 4);
  await guest.leave(LOST_CONNECTION);
});

/** The trigger's arguments for a drain with these durations. */
function drain(durations) {
  return ["drain", "--text", TEXT, ...Object.entries(durations).flatMap(([name, value]) => [`--${name}`, value])];
}

/** Waits until every ticket is ready, and picks one up. */
async function cookedThrough(guest, count) {
  await until(`all ${count} tickets of ${guest.name} are ready`, async () => {
    const tickets = await guest.tickets();
    return { done: tickets.length === count && tickets.every((ticket) => ticket.state === "ready"), seen: tickets };
  }, 60_000);
  await guest.page.getByTestId("pick-up").first().click();
  await guest.sees("picks one up", () => guest.tickets().then((tickets) => tickets.length), count - 1);
}
