// A drain as a guest sees it: a calm notice, a countdown to the moment of the move, and a word to the hub while
// somebody is typing.

/** How long the hub is asked to wait for someone who types, in milliseconds. */
const BUSY_MS = 8_000;
/** How often that is said again while keys are pressed, in milliseconds. */
const BUSY_AGAIN_MS = 4_000;
/** How often the countdown is shown anew, in milliseconds. */
const TICK_MS = 250;

/** The notice and the dialogue of one drain after the other. */
export class Drain {
  /** The drain that we are in: its id, when this client's turn is by this page's clock, and how long it was to wait. */
  #now = null;
  /** What the hub was told last in this drain: nothing, "busy" or "ready"; and when. */
  #said = { what: null, at: 0 };
  #timer = null;
  #socket;
  #isTyping;
  #parts;

  /**
   * @param {object} socket - the TidegateSocket
   * @param {() => boolean} isTyping - whether a half-written order stands in the field
   */
  constructor(socket, isTyping) {
    this.#socket = socket;
    this.#isTyping = isTyping;
    const part = (id) => document.getElementById(id);
    this.#parts = {
      notice: part("notice"),
      text: part("notice-text"),
      status: part("notice-status"),
      ring: part("notice-ring"),
      count: part("notice-count"),
    };
  }

  /** The service is pausing. A second notice of the same drain only changes the moment. */
  noticed({ drain, text, slotMs }) {
    const fresh = this.#now?.drain !== drain;
    this.#now = { drain, turnAt: performance.now() + slotMs, spanMs: Math.max(slotMs, 1), due: false };
    write(this.#parts.text, text || "The service is pausing for a moment.");
    this.#parts.notice.hidden = false;
    if (fresh) {
      this.#said = { what: null, at: 0 };
      if (this.#isTyping()) this.#sayBusy();
      else this.#sayReady();
    }
    this.#show();
  }

  /** A key was pressed in the order field, or the field was emptied or sent. */
  typed() {
    if (this.#now === null) return;
    if (!this.#isTyping()) this.#sayReady();
    else if (this.#said.what !== "busy" || performance.now() - this.#said.at >= BUSY_AGAIN_MS) this.#sayBusy();
    this.#show();
  }

  /** It is over for us: moved, recalled, or begun anew. Says whether there was one. */
  over() {
    const was = this.#now !== null;
    this.#now = null;
    clearTimeout(this.#timer);
    this.#parts.notice.hidden = true;
    return was;
  }

  #sayBusy() {
    this.#said = { what: "busy", at: performance.now() };
    this.#socket.busy(BUSY_MS, "typing");
  }

  #sayReady() {
    if (this.#said.what === "ready") return;
    this.#said = { what: "ready", at: performance.now() };
    this.#socket.ready();
  }

  #show() {
    clearTimeout(this.#timer);
    if (this.#now === null) return;
    const { notice, status, ring, count } = this.#parts;
    const left = Math.max(0, this.#now.turnAt - performance.now());
    const typing = this.#isTyping();
    const due = left === 0;
    notice.dataset.mood = due ? "moving" : typing ? "busy" : "calm";
    count.textContent = due ? "" : String(Math.ceil(left / 1000));
    ring.style.strokeDashoffset = due ? "" : String(1 - Math.min(1, left / this.#now.spanMs));
    write(status, statusText(due, typing));
    this.#timer = setTimeout(() => this.#show(), TICK_MS);
  }
}

function statusText(due, typing) {
  if (due) return "Moving your table, any moment now.";
  if (typing) return "You are writing an order: we have asked the service to wait for you.";
  return "Your table moves by itself, tickets and all. There is nothing you need to do.";
}

/** Writes a text only when it is another one: a live region speaks each time it is written. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
