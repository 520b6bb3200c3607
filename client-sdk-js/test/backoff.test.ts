import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CAP_MS, FIRST_MS, FLOOR_MS, ORDER_JITTER_MS, afterUptime, backoff, ordered } from "../src/backoff.js";

const ALMOST_1 = 1 - Number.EPSILON;

describe("backoff", () => {
  it("is never below the floor, before the first retry neither", () => {
    for (let failures = 0; failures < 40; failures += 1) assert.equal(backoff(failures, 0), FLOOR_MS);
    assert.ok(FLOOR_MS >= 100);
  });

  it("spreads the first retry over its whole range", () => {
    assert.ok(backoff(0, ALMOST_1) > FIRST_MS * 0.99);
    assert.equal(backoff(0, 0.5), (FLOOR_MS + FIRST_MS) / 2);
  });

  it("doubles its range with each failure, up to the cap and never above", () => {
    const tops = Array.from({ length: 8 }, (_, failures) => Math.round(backoff(failures, ALMOST_1)));
    assert.deepEqual(tops, [1_000, 2_000, 4_000, 8_000, 16_000, CAP_MS, CAP_MS, CAP_MS]);
    assert.ok(backoff(1e9, ALMOST_1) <= CAP_MS);
    assert.equal(CAP_MS, 20_000);
  });

  it("forgets failures only after a connection that was good for 5 s", () => {
    assert.equal(afterUptime(3, 4_999), 4);
    assert.equal(afterUptime(3, 5_000), 0);
  });

  it("never shortens what a hub ordered, and adds little", () => {
    assert.equal(ordered(4_000, 0), 4_000);
    assert.equal(ordered(0, 0), FLOOR_MS);
    assert.ok(ordered(60_000, ALMOST_1) <= 60_000 + ORDER_JITTER_MS);
  });
});
