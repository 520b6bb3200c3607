/** Frames, close codes and URLs. The vectors that Rust reads too are in `vectors.test.ts`. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CLOSE, cutReason, mayReturn, verdict } from "../src/close.js";
import { FRAME_BYTES_MAX, encode, escape, parse, sort } from "../src/frames.js";
import { checkProtocols, moveTarget, normalise } from "../src/url.js";

function fault(json: string): string {
  const parsed = parse(json);
  assert.ok(!parsed.ok, `${json} was taken`);
  return parsed.fault;
}

describe("the border between frames and app messages", () => {
  it("is the first character, escaped by doubling it", () => {
    assert.deepEqual(sort("plain"), { kind: "app", text: "plain" });
    assert.deepEqual(sort(""), { kind: "app", text: "" });
    assert.deepEqual(sort('\u0001{"type":"ping"}'), { kind: "frame", json: '{"type":"ping"}' });
    for (const text of ["", "a", "\u0001", "\u0001\u0001", '\u0001{"type":"ping"}', "a\u0001"]) {
      assert.deepEqual(sort(escape(text)), { kind: "app", text });
    }
  });
});

describe("a frame", () => {
  it("is written as the mark and one JSON object", () => {
    assert.equal(encode({ type: "ack", received: 3 }), '\u0001{"type":"ack","received":3}');
  });

  it("carries text that UTF-8 can carry", () => {
    assert.equal(encode({ type: "bye", reason: "a\ud800b😀" }), '\u0001{"type":"bye","reason":"a\ufffdb😀"}');
  });

  it("is read without the fields that nobody knows", () => {
    assert.deepEqual(parse('{"type":"ack","received":3,"colour":"red"}'), {
      ok: true,
      frame: { type: "ack", received: 3 },
    });
  });

  it("is refused with the fault named", () => {
    assert.equal(fault("{"), "a frame must be one JSON object");
    assert.equal(fault("[]"), "a frame must be one JSON object");
    assert.equal(fault("{}"), "a frame must have a `type`, a string");
    assert.equal(fault('{"type":"dance"}'), 'unknown frame type "dance"');
    assert.equal(fault('{"type":"toString"}'), 'unknown frame type "toString"');
    assert.equal(fault('{"type":"ack"}'), "ack.received is missing");
    for (const wrong of ["-1", "1.5", '"1"', "null", "9007199254740992"]) {
      assert.equal(fault(`{"type":"ack","received":${wrong}}`), "ack.received must be a whole number from 0 to 2^53-1");
    }
    assert.equal(fault('{"type":"move","drain":"d","seq":1,"token":"t","url":7}'), "move.url must be a string");
  });

  it("above 64 KiB is refused, counted in bytes", () => {
    const of = (bytes: number) => `{"type":"pong","x":"${"é".repeat((bytes - 22) / 2)}"}`;
    assert.ok(parse(of(FRAME_BYTES_MAX)).ok);
    assert.match(fault(of(FRAME_BYTES_MAX + 2)), /^frame of 65538 bytes; at most 65536$/);
  });
});

describe("a close code", () => {
  it("says whether to come back", () => {
    for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 3000, 4000, 4001, 4002, 4499]) {
      assert.equal(verdict(code), "return", String(code));
    }
    for (const code of [1000, 1002, 1003, 1007, 1009, 4500, 4512, 4513, 4520, 4530, 4531, 4999]) {
      assert.equal(verdict(code), "final", String(code));
    }
    assert.deepEqual([CLOSE.badToken, CLOSE.tokenExpired].map(verdict), ["anew", "anew"]);
    assert.deepEqual([CLOSE.authFailed, CLOSE.authExpired].map(verdict), ["auth", "auth"]);
    assert.ok(!mayReturn(CLOSE.authExpired));
  });

  it("carries a reason of at most 123 bytes, cut at a character", () => {
    assert.equal(cutReason("short"), "short");
    assert.equal(cutReason("é".repeat(100)), "é".repeat(61));
    assert.equal(cutReason("😀".repeat(40)), "😀".repeat(30));
    assert.equal(cutReason("x".repeat(123)).length, 123);
  });
});

describe("a URL", () => {
  it("is normalised as a browser does", () => {
    assert.equal(normalise("HTTPS://Example.com:443/a b?c", undefined), "wss://example.com/a%20b?c");
    assert.equal(normalise("/connect", "https://example.com/page"), "wss://example.com/connect");
    assert.throws(() => normalise("/connect", undefined), /is invalid/);
    assert.throws(() => normalise("ws://a/#", undefined), /fragment/);
    assert.throws(() => normalise("mailto:a@b", undefined), /scheme/);
  });

  it("of a move is followed within wss and the known host", () => {
    const home = "wss://a.example/connect?x=1";
    assert.equal(moveTarget(undefined, home, []), home);
    assert.equal(moveTarget("https://a.example:9/", home, []), "wss://a.example:9/connect?x=1");
    assert.equal(moveTarget("ws://a.example/", home, "any"), home);
    assert.equal(moveTarget("wss://b.example/", home, []), home);
    assert.equal(moveTarget("wss://b.example/", home, ["b.example"]), "wss://b.example/connect?x=1");
    assert.equal(moveTarget("wss://a.example/", "ws://a.example/c", []), "wss://a.example/c");
  });

  it("goes with subprotocols that are tokens and come once", () => {
    assert.deepEqual(checkProtocols(undefined), []);
    assert.deepEqual(checkProtocols("chat"), ["chat"]);
    assert.throws(() => checkProtocols(["chat", "chat"]), /duplicated/);
    assert.throws(() => checkProtocols(""), /invalid/);
  });
});
