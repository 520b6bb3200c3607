import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { utf8Length } from "../src/close.js";
import { Outbox, sizeOf } from "../src/outbox.js";

describe("the outbox", () => {
  it("keeps messages in order until they are acked", () => {
    const outbox = new Outbox();
    for (const text of ["a", "b", "c", "d"]) outbox.push(text);
    outbox.release(1);
    assert.deepEqual(outbox.unacked(), ["b", "c", "d"]);
    outbox.release(2);
    outbox.push("e");
    assert.deepEqual(outbox.unacked(), ["d", "e"]);
    assert.equal(outbox.length, 2);
  });

  it("counts bytes as they travel", () => {
    const outbox = new Outbox(10);
    outbox.push("äö");
    outbox.push(new ArrayBuffer(5));
    assert.equal(outbox.bytes, 9);
    assert.ok(outbox.fits(1));
    assert.ok(!outbox.fits(2));
    outbox.release(1);
    assert.equal(outbox.bytes, 5);
    outbox.release(9);
    assert.equal(outbox.bytes, 0);
  });

  it("leaves out what is not to be resent, and keeps it all the same", () => {
    const outbox = new Outbox();
    for (const text of ["acked", "counted", "lost", "new"]) outbox.push(text);
    outbox.release(1);
    assert.deepEqual(outbox.unacked(1), ["lost", "new"]);
    assert.deepEqual(outbox.unacked(3), []);
    assert.deepEqual([outbox.length, outbox.bytes], [3, 14]);
    assert.deepEqual(outbox.takeAll(), ["counted", "lost", "new"]);
  });

  it("hands everything out at once when continuity is lost", () => {
    const outbox = new Outbox();
    for (const text of ["a", "b", "c"]) outbox.push(text);
    outbox.release(1);
    assert.deepEqual(outbox.takeAll(), ["b", "c"]);
    assert.deepEqual([outbox.length, outbox.bytes, outbox.unacked()], [0, 0, []]);
  });

  it("agrees with a plain array under any mix of sends and acks", () => {
    let seed = 7;
    const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
    const outbox = new Outbox(Infinity);
    let model: string[] = [];
    for (let n = 0; n < 5_000; n += 1) {
      if (random(3) > 0) {
        const text = "x".repeat(random(20)) + n;
        outbox.push(text);
        model.push(text);
      } else {
        const count = random(model.length + 1);
        outbox.release(count);
        model = model.slice(count);
      }
      assert.equal(outbox.length, model.length);
      assert.equal(outbox.bytes, model.join("").length);
    }
    assert.deepEqual(outbox.unacked(), model);
  });

  it("measures text as its encoder does", () => {
    for (const text of ["", "a", "é", "€", "😀", "a😀é", "\ud800", "\udc00x", "\ud800\ud800", "x\ud83d"]) {
      assert.equal(utf8Length(text), new TextEncoder().encode(text).byteLength, JSON.stringify(text));
      assert.equal(sizeOf(text), utf8Length(text));
    }
  });
});
