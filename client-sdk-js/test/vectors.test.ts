/**
 * The vectors of `protocol/vectors/`, which the Rust tests read too: frames, what is refused, close
 * codes, and conversations with the machine.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { CLOSE, mayReturn, slotMs, verdict, type Verdict } from "../src/close.js";
import { MARK, encode, escape, parse, sort, type ClientFrame } from "../src/frames.js";
import { type Dialogue, play } from "./dialogue.js";

interface FrameVector {
  readonly name: string;
  readonly from: "client" | "hub" | "both";
  readonly text: string;
  readonly fill_bytes?: number;
  readonly means?: Readonly<Record<string, unknown>>;
}

interface AppVector {
  readonly name: string;
  readonly app: string;
  readonly text: string;
}

interface CodeVector {
  readonly code: number;
  readonly name?: string;
  readonly then: Verdict;
}

interface SlotVector {
  readonly code: number;
  readonly reason: string;
  readonly after_ms: number | null;
}

function vectors<T>(file: string): T {
  // From dist-test/test, where the tests run.
  return JSON.parse(readFileSync(new URL(`../../../protocol/vectors/${file}`, import.meta.url), "utf8")) as T;
}

const frames = vectors<{ frames: FrameVector[]; apps: AppVector[] }>("frames.json");
const invalid = vectors<{ frames: FrameVector[] }>("invalid.json");
const codes = vectors<{ hub: CodeVector[]; others: CodeVector[]; slots: SlotVector[] }>("close-codes.json");
const dialogues = vectors<{ home: string; dialogues: Dialogue[] }>("dialogues.json");

/** The JSON behind the mark, filled up where the vector says so. */
function json({ text, fill_bytes }: FrameVector): string {
  assert.equal(text[0], MARK);
  const bytes = Buffer.byteLength(text);
  // One byte for the mark, which does not count, and one for the @ that is replaced.
  const whole = fill_bytes === undefined ? text : text.replace("@", "@".repeat(fill_bytes + 2 - bytes));
  const sorted = sort(whole);
  assert.equal(sorted.kind, "frame");
  return whole.slice(1);
}

describe("the vectors' frames", () => {
  for (const vector of frames.frames.filter(({ from }) => from === "hub")) {
    it(`are read as they are meant: ${vector.name}`, () => {
      assert.deepEqual(parse(json(vector)), { ok: true, frame: vector.means });
    });
  }

  for (const vector of frames.frames.filter(({ from }) => from === "client")) {
    it(`are written so that they mean the same: ${vector.name}`, () => {
      const sorted = sort(encode(vector.means as unknown as ClientFrame));
      assert.ok(sorted.kind === "frame", "it is written with its mark");
      assert.deepEqual(JSON.parse(sorted.json), vector.means);
    });
  }

  for (const { name, app, text } of frames.apps) {
    it(`leave app messages as they are: ${name}`, () => {
      assert.equal(escape(app), text);
      assert.deepEqual(sort(text), { kind: "app", text: app });
    });
  }
});

describe("the vectors' invalid frames", () => {
  for (const vector of invalid.frames.filter(({ from }) => from !== "client")) {
    it(`are refused: ${vector.name}`, () => {
      const parsed = parse(json(vector));
      assert.ok(!parsed.ok, `it was taken: ${JSON.stringify(parsed)}`);
      assert.ok(parsed.fault.length > 10, `the fault is named, not only ${parsed.fault}`);
    });
  }
});

describe("the vectors' close codes", () => {
  it("are ours, by name", () => {
    // These three never travel: two say that there was no code, one is what the SDK reports of a reset.
    const { noStatus, abnormal, reset, ...travelling } = CLOSE;
    assert.deepEqual([noStatus, abnormal, reset], [1005, 1006, 4400]);
    const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const ours = Object.entries(travelling).map(([name, code]) => [code, snake(name)]);
    assert.deepEqual(ours, codes.hub.map(({ code, name }) => [code, name]));
  });

  for (const { code, then } of [...codes.hub, ...codes.others]) {
    it(`${code} means ${then}`, () => {
      assert.equal(verdict(code), then);
      assert.equal(mayReturn(code), then === "return");
    });
  }
});

describe("the vectors' slots", () => {
  for (const { code, reason, after_ms } of codes.slots) {
    it(`${code} ${JSON.stringify(reason)} means ${after_ms}`, () => assert.equal(slotMs(code, reason), after_ms));
  }
});

describe("the vectors' dialogues", () => {
  it("are all there", () => assert.ok(dialogues.dialogues.length > 40, `${dialogues.dialogues.length} were found`));

  for (const dialogue of dialogues.dialogues) {
    it(dialogue.name, () => play(dialogue, dialogues.home));
  }
});
