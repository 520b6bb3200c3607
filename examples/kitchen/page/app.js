// The kitchen's page: one TidegateSocket, a board, and what the service has to say. The line that matters to an app
// that had a WebSocket before is the one with `new TidegateSocket`.

import { Board, menu } from "/js/board.js";
import { Drain } from "/js/drain.js";

/** How long a toast stays, in milliseconds. */
const TOAST_MS = 7_000;
/** How long a move may take until its kitchen has told of itself, in milliseconds. */
const ARRIVAL_MS = 2_500;

const part = (id) => document.getElementById(id);
const input = part("order-input");

/** Starts the page. */
async function start() {
  const [{ TidegateSocket }, config] = await Promise.all([
    import("/sdk/index.js"),
    fetch("/config.json").then((response) => response.json()),
  ]);
  const hub = (new URLSearchParams(location.search).get("hub") ?? config.hub).replace(/\/+$/, "");
  const socket = new TidegateSocket(`${hub}/kitchen`);
  const board = new Board(part("board"), (id) => socket.send(JSON.stringify({ pick_up: id })));
  const drain = new Drain(socket, () => input.value.trim() !== "");
  // For a look from the console, and for tests.
  window.kitchen = { socket, board };

  const order = (text) => {
    const wanted = text.trim().replace(/\s+/g, " ");
    if (wanted === "") return;
    hint("");
    board.sent(wanted);
    socket.send(JSON.stringify({ order: wanted }));
  };
  menu(part("quick"), order);
  part("order-form").addEventListener("submit", (event) => {
    event.preventDefault();
    order(input.value);
    input.value = "";
    input.focus();
    drain.typed();
  });
  input.addEventListener("input", () => {
    hint("");
    drain.typed();
  });
  const arrival = hearKitchen(socket, board);
  hearService(socket, board, drain, arrival, order);
}

/** What the app says: tickets. */
function hearKitchen(socket, board) {
  const served = { kitchen: "", hub: "" };
  /** A move whose kitchen has not told of itself yet. */
  let awaited = null;

  const show = () => servedBy(served);
  const arrived = () => {
    clearTimeout(awaited);
    awaited = null;
    const count = board.size;
    const tickets = count === 0 ? "Nothing was left behind." : `${plural(count, "ticket")} came along.`;
    toast(`Your table has moved to kitchen ${served.kitchen}. ${tickets}`);
  };
  const hears = {
    board: ({ kitchen, hub, remembered, tickets, picked_up }) => {
      served.kitchen = kitchen;
      served.hub = hub ?? served.hub;
      show();
      board.replace(tickets);
      tally(picked_up);
      if (!remembered) {
        // What was on its way to the lost memory will not be answered any more.
        board.forgetPending();
        forgotten(kitchen);
      }
      if (awaited !== null) arrived();
    },
    ticket: ({ ticket }) => board.update(ticket),
    picked_up: ({ id, picked_up }) => {
      board.remove(id);
      tally(picked_up);
    },
    refused: ({ why, order }) => {
      if (order !== null) board.arrived(order);
      hint(`Not taken: ${why}.`);
    },
  };
  socket.addEventListener("message", ({ data }) => {
    const told = JSON.parse(data);
    hears[told.type]?.(told);
  });
  return {
    /** The session is at this hub now. */
    at: (hub) => {
      const elsewhere = served.hub !== "" && served.hub !== hub;
      served.hub = hub;
      show();
      return elsewhere;
    },
    /** A move has ended; the new kitchen's word is next. */
    await: () => {
      clearTimeout(awaited);
      awaited = setTimeout(arrived, ARRIVAL_MS);
    },
  };
}

/** What the service says: open, pause, move, trouble. */
function hearService(socket, board, drain, arrival, order) {
  connection("connecting");
  takeOrders(false);
  socket.addEventListener("open", () => {
    connection("connected");
    takeOrders(true);
  });
  socket.addEventListener("notice", ({ detail }) => drain.noticed(detail));
  socket.addEventListener("moved", ({ detail }) => {
    drain.over();
    connection("connected");
    arrival.at(detail.hub);
    arrival.await();
  });
  socket.addEventListener("recalled", () => {
    if (drain.over()) toast("The pause was called off. You stay where you are.");
  });
  socket.addEventListener("reconnecting", () => connection("reconnecting"));
  socket.addEventListener("resumed", ({ detail }) => {
    // A drain that still concerns us is announced again by the hub that has us now.
    drain.over();
    connection("connected");
    // The old connection may be closed in the very moment of a move, before the new one is welcomed:
    // then the move ends as a resume, and the guest has moved all the same.
    if (arrival.at(detail.hub)) arrival.await();
  });
  socket.addEventListener("reset", (event) => {
    // The page can go on with the new session, so the socket stays open.
    event.preventDefault();
    drain.over();
    board.forgetPending();
    connection("connected");
    begunAnew(event.detail, order);
  });
  socket.addEventListener("close", ({ code, reason }) => {
    drain.over();
    connection("closed");
    takeOrders(false);
    const why = `The connection has ended${reason ? `: ${reason}` : ""} (code ${code}).`;
    trouble(why, "A new connection is a new table.", "Start over", () => location.reload());
  });
}

/** Why a session had to begin anew, for people. */
const CAUSES = {
  unknown: "no hub knew it any more",
  owner_lost: "the hub that held it is gone",
  taken_up_lost: "the hub that had taken it up is gone",
  expired: "it had waited too long",
};

/** Continuity was lost, and the page says so: what was sent without an answer is offered again, never repeated by itself. */
function begunAnew({ why, unsent }, order) {
  const lost = (unsent ?? []).map(orderOf).filter((text) => text !== null);
  const detail = lost.length === 0
    ? "Every order of yours had been confirmed. The board shows what the kitchen still knows."
    : `Not confirmed, and maybe never cooked: ${lost.join(", ")}.`;
  const act = lost.length === 0 ? null : "Order again";
  trouble(`Your session had to begin anew: ${CAUSES[why] ?? why}.`, detail, act, () => lost.forEach(order));
}

/** The order in a message of ours, or null. */
function orderOf(payload) {
  try {
    return JSON.parse(payload).order ?? null;
  } catch {
    return null;
  }
}

function forgotten(kitchen) {
  const why = `Kitchen ${kitchen} has lost its memory of your table.`;
  trouble(why, "It was restarted without a chance to hand your tickets on. The board starts empty.", null, () => {});
}

const WORDS = { connecting: "connecting", connected: "connected", reconnecting: "coming back", closed: "disconnected" };

function connection(state) {
  const element = part("connection-state");
  element.dataset.state = state;
  element.textContent = WORDS[state];
}

/** Before the first `open` and after `close` a socket takes nothing; in between it always does, even while it reconnects. */
function takeOrders(open) {
  for (const button of part("order-form").querySelectorAll("button")) button.disabled = !open;
}

function servedBy({ kitchen, hub }) {
  const element = part("served-by");
  element.dataset.kitchen = kitchen;
  element.dataset.hub = hub;
  element.replaceChildren(`kitchen ${kitchen}`);
  if (hub !== "") {
    const id = document.createElement("code");
    id.textContent = hub.slice(0, 8);
    id.title = `hub ${hub}`;
    element.append(" · hub ", id);
  }
}

function tally(count) {
  part("tally").textContent = count === 0 ? "" : `${plural(count, "ticket")} picked up`;
}

function hint(text) {
  part("order-hint").textContent = text;
}

let toastTimer = null;

function toast(text) {
  clearTimeout(toastTimer);
  const element = part("toast");
  element.textContent = text;
  element.hidden = false;
  toastTimer = setTimeout(() => {
    element.hidden = true;
  }, TOAST_MS);
}

/** Something that the guest should know and may act on. Without `label` it can only be dismissed. */
function trouble(text, detail, label, act) {
  const box = part("trouble");
  part("trouble-text").textContent = text;
  part("trouble-detail").textContent = detail;
  const button = part("trouble-act");
  button.hidden = label === null;
  button.textContent = label ?? "";
  button.onclick = () => {
    box.hidden = true;
    act();
  };
  part("trouble-dismiss").onclick = () => {
    box.hidden = true;
  };
  box.hidden = false;
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

start().catch((why) => {
  connection("closed");
  const detail = `${why.message}. Was the kitchen started with --sdk and the built SDK?`;
  trouble("The page could not start.", detail, "Try again", () => location.reload());
});
