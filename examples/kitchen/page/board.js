// The board on the page: tickets as the kitchen tells of them, and orders that are still on their way.

/** The dishes that can be ordered with one click. */
const MENU = ["soup", "salad", "bread", "pasta", "curry", "tart"];

/** How often the time that is left is shown anew, in milliseconds. */
const TICK_MS = 250;

const COLUMNS = ["queued", "cooking", "ready"];

/** Shows the tickets of one session. */
export class Board {
  /** Tickets by number: as told, and for a cooking one when it will be ready by this page's clock. */
  #tickets = new Map();
  /** Orders that were sent and have no ticket yet, oldest first. */
  #pending = [];
  #elements = new Map();
  #root;
  #pickUp;
  #timer = null;

  /**
   * @param {HTMLElement} root - the element with the three columns
   * @param {(id: number) => void} pickUp - called when a guest takes a ready ticket
   */
  constructor(root, pickUp) {
    this.#root = root;
    this.#pickUp = pickUp;
  }

  /** How many tickets hang here, orders on their way not counted. */
  get size() {
    return this.#tickets.size;
  }

  /** The tickets, for a look from outside. */
  get tickets() {
    return [...this.#tickets.values()].map(({ id, order, state }) => ({ id, order, state }));
  }

  /** The kitchen told everything anew: this is what there is. */
  replace(tickets) {
    this.#tickets.clear();
    for (const ticket of tickets) this.#put(ticket);
    this.#show();
  }

  /** A ticket is new or has become something else. */
  update(ticket) {
    if (!this.#tickets.has(ticket.id)) this.arrived(ticket.order);
    this.#put(ticket);
    this.#show();
  }

  /** A ticket was picked up. */
  remove(id) {
    this.#tickets.delete(id);
    this.#show();
  }

  /** An order was sent; it stands here until the kitchen has written its ticket. */
  sent(order) {
    this.#pending.push({ key: Symbol(order), order });
    this.#show();
  }

  /** The kitchen answered this order, with a ticket or a refusal. */
  arrived(order) {
    const at = this.#pending.findIndex((pending) => pending.order === order);
    if (at >= 0) this.#pending.splice(at, 1);
    this.#show();
  }

  /** Continuity was lost: what was on its way stays unanswered. */
  forgetPending() {
    this.#pending.length = 0;
    this.#show();
  }

  #put(ticket) {
    const readyAt = ticket.state === "cooking" ? performance.now() + ticket.remaining_ms : null;
    this.#tickets.set(ticket.id, { ...ticket, readyAt });
  }

  #show() {
    const tickets = [...this.#tickets.values()];
    for (const column of COLUMNS) {
      const here = tickets.filter((ticket) => ticket.state === column);
      const items = here.map((ticket) => this.#element(ticket.id, ticket));
      if (column === "queued") {
        items.push(...this.#pending.map(({ key, order }) => this.#element(key, { order, state: "sending" })));
      }
      arrange(this.#root.querySelector(`[data-list="${column}"]`), items);
      this.#root.querySelector(`[data-count="${column}"]`).textContent = String(here.length);
    }
    const shown = new Set([...this.#tickets.keys(), ...this.#pending.map(({ key }) => key)]);
    for (const key of this.#elements.keys()) if (!shown.has(key)) this.#elements.delete(key);
    this.#tick();
  }

  /** The element of a ticket: kept while its state stays, so that nothing blinks and no focus is lost. */
  #element(key, ticket) {
    const known = this.#elements.get(key);
    if (known?.dataset.state === ticket.state) return known;
    const element = this.#draw(ticket);
    this.#elements.set(key, element);
    return element;
  }

  #draw({ id, order, state }) {
    const item = make("li", "ticket fresh");
    item.dataset.state = state;
    if (id === undefined) {
      item.dataset.testid = "ticket-pending";
    } else {
      item.dataset.testid = "ticket";
      item.dataset.ticketId = String(id);
    }
    const paper = make("div", "paper");
    const meta = make("p", "meta");
    meta.append(make("span", "", id === undefined ? "new" : `#${id}`), make("span", "left", WORDS[state]));
    paper.append(meta, make("p", "dish", order));
    if (state === "cooking") paper.append(heat());
    if (state === "ready") paper.append(this.#pickUpButton(id, order));
    item.append(paper);
    return item;
  }

  #pickUpButton(id, order) {
    const foot = make("div", "foot");
    const button = make("button", "", "Pick up");
    button.type = "button";
    button.dataset.testid = "pick-up";
    button.setAttribute("aria-label", `Pick up ticket ${id}, ${order}`);
    button.addEventListener("click", () => {
      button.disabled = true;
      this.#pickUp(id);
    });
    foot.append(button);
    return foot;
  }

  /** Shows how far what cooks is, and comes again while something cooks. */
  #tick() {
    clearTimeout(this.#timer);
    const now = performance.now();
    let cooking = false;
    for (const ticket of this.#tickets.values()) {
      if (ticket.readyAt === null) continue;
      cooking = true;
      const left = Math.max(0, ticket.readyAt - now);
      const element = this.#elements.get(ticket.id);
      element.querySelector(".left").textContent = `${Math.ceil(left / 1000)} s`;
      element.style.setProperty("--done", String(Math.min(1, 1 - left / ticket.cook_ms)));
    }
    if (cooking) this.#timer = setTimeout(() => this.#tick(), TICK_MS);
  }
}

const WORDS = { queued: "waiting", cooking: "", ready: "ready", sending: "on its way" };

/**
 * Fills the row of dishes that can be ordered with one click.
 *
 * @param {HTMLElement} root - where they go
 * @param {(order: string) => void} order - called with the dish
 */
export function menu(root, order) {
  for (const dish of MENU) {
    const button = make("button", "", dish);
    button.type = "button";
    button.addEventListener("click", () => order(dish));
    root.append(button);
  }
}

/** Makes the children of a list exactly these, moving no element that is in its place already. */
function arrange(list, items) {
  items.forEach((item, at) => {
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  });
  while (list.children.length > items.length) list.lastElementChild.remove();
}

function heat() {
  const foot = make("div", "foot");
  const bar = make("div", "heat");
  bar.setAttribute("aria-hidden", "true");
  bar.append(document.createElement("i"));
  foot.append(bar);
  return foot;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}
