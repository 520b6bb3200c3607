// The standard's sections on `send()`, `close()`, `bufferedAmount`, and "Feedback from the protocol".
// https://websockets.spec.whatwg.org/#dom-websocket-send, #dom-websocket-close, #feedback-from-the-protocol

import { event, same, sameList, section, throws, turn } from "./harness.js";

const send = section("send()");

send("without an argument it is a TypeError", async (stand) => {
  const socket = await stand.open();
  throws("TypeError", () => socket.send());
});
send("while CONNECTING it is an InvalidStateError", (stand) => {
  const socket = stand.make();
  throws("InvalidStateError", () => socket.send("early"));
  throws("InvalidStateError", () => socket.send(new Uint8Array(1)));
});
send("arguments are looked at before the state", (stand) => throws("TypeError", () => stand.make().send(Symbol("x"))));
for (const [what, given, text] of [
  ["a text", "a text", "a text"], ["an empty text", "", ""], ["null", null, "null"], ["undefined", undefined, "undefined"], ["a number", 7, "7"],
  ["an object", { toString: () => "mine" }, "mine"], ["a list", [1, 2], "1,2"], ["text of all planes", "ä漢😀", "ä漢😀"],
  ["a text with U+0000 and U+0001", "\u0000\u0001", "\u0000\u0001"], ["a text that begins with U+0001", "\u0001{}", "\u0001{}"],
  ["half a pair", "a\ud800b\udc00", "a\ufffdb\ufffd"],
]) {
  send(`${what} is a text message`, async (stand) => same(await stand.echo(await stand.open(), given), text));
}
for (const [what, make] of [
  ["an ArrayBuffer", () => Uint8Array.of(1, 2, 3).buffer],
  ["a view", () => Uint8Array.of(9, 1, 2, 3, 9).subarray(1, 4)],
  ["a DataView", () => new DataView(Uint8Array.of(9, 1, 2, 3).buffer, 1)],
  ["a view of wider numbers", () => new Uint16Array(Uint8Array.of(1, 2, 3, 0).buffer)],
  ["a Blob", () => new Blob([Uint8Array.of(1, 2, 3)])],
  ["a File", () => new File([Uint8Array.of(1, 2, 3)], "name")],
]) {
  send(`${what} is a binary message`, async (stand) => {
    const socket = await stand.open();
    socket.binaryType = "arraybuffer";
    const answer = [...new Uint8Array(await stand.echo(socket, make()))].slice(0, 3);
    sameList(answer, [1, 2, 3]);
  });
}
send("bytes of an iframe are bytes", async (stand) => {
  const frame = document.body.appendChild(document.createElement("iframe"));
  const socket = await stand.open();
  socket.binaryType = "arraybuffer";
  for (const code of ["Uint8Array.of(1, 2)", "Uint8Array.of(1, 2).buffer", "new Blob([Uint8Array.of(1, 2)])"]) {
    sameList([...new Uint8Array(await stand.echo(socket, frame.contentWindow.eval(code)))], [1, 2], code);
  }
  frame.remove();
});
send("bytes are those of the moment of the call", async (stand) => {
  const socket = await stand.open();
  socket.binaryType = "arraybuffer";
  const bytes = Uint8Array.of(1, 2);
  const answer = event(socket, "message");
  socket.send(bytes);
  bytes.fill(9);
  sameList([...new Uint8Array((await answer).data)], [1, 2]);
});
send("bytes that were transferred away are none", async (stand) => {
  const socket = await stand.open();
  socket.binaryType = "arraybuffer";
  const bytes = Uint8Array.of(1, 2);
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  same((await stand.echo(socket, bytes.buffer)).byteLength, 0);
});
send("shared memory is a TypeError", async (stand) => {
  const socket = await stand.open();
  const { buffer } = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  throws("TypeError", () => socket.send(new Uint8Array(buffer)), "a view of it");
});
send("texts, bytes and Blobs keep their order", async (stand) => {
  const socket = await stand.open();
  socket.binaryType = "arraybuffer";
  const got = [];
  const all = new Promise((resolve) => {
    socket.onmessage = ({ data }) => {
      got.push(typeof data === "string" ? data : new TextDecoder().decode(data));
      if (got.length === 4) resolve();
    };
  });
  socket.send("one");
  socket.send(new Blob(["two"]));
  socket.send(new TextEncoder().encode("three"));
  socket.send("four");
  await all;
  sameList(got, ["one", "two", "three", "four"]);
});
send("after close() it is taken without a word, and counted", async (stand) => {
  const socket = await stand.open();
  socket.close();
  const before = socket.bufferedAmount;
  same(socket.send("äö"), undefined);
  same(socket.bufferedAmount, before + 4);
  const closed = event(socket, "close");
  await closed;
  socket.send(new Uint8Array(3));
  socket.send(new Blob(["12"]));
  same(socket.bufferedAmount, before + 9);
});

const buffered = section("bufferedAmount");

buffered("rises by the bytes of what was sent, in UTF-8, and falls to nothing", async (stand) => {
  const socket = await stand.open();
  socket.send("äö");
  socket.send(new Uint8Array(3));
  socket.send(new Blob(["12"]));
  same(socket.bufferedAmount, 9);
  while (socket.bufferedAmount > 0) await turn();
});
buffered("does not fall within a turn", async (stand) => {
  const socket = await stand.open();
  socket.send("x".repeat(100));
  for (let n = 0; n < 1000; n += 1) same(socket.bufferedAmount, 100);
  await Promise.resolve();
  same(socket.bufferedAmount, 100);
});
buffered("lets an uploader wait for it: a hundred parts", async (stand) => {
  const socket = await stand.open("/count");
  const part = new Uint8Array(20_000);
  for (let n = 0; n < 100; n += 1) {
    socket.send(part);
    while (socket.bufferedAmount > 0) await turn();
  }
  same(await stand.echo(socket, "how many?"), "2000000");
});
buffered("three times 500 KB in a row arrive", async (stand) => {
  const socket = await stand.open("/count");
  for (let n = 0; n < 3; n += 1) socket.send(new Uint8Array(500_000));
  same(await stand.echo(socket, "how many?"), "1500000");
});

const close = section("close()");

for (const code of [0, 500, 999, 1001, 1002, 1005, 1006, 1011, 1012, 2999, 5000, 65535, 66536, null, NaN, "x", -1]) {
  close(`the code ${code} is an InvalidAccessError`, (stand) => throws("InvalidAccessError", () => stand.make().close(code)));
}
for (const code of [1000, 3000, 4999, "1000", 1000.4, 2999.5, undefined]) {
  close(`the code ${typeof code === "string" ? "the text " : ""}${code} is taken`, (stand) => same(stand.make().close(code), undefined));
}
close("the code is looked at before the reason", (stand) => throws("InvalidAccessError", () => stand.make().close(1, "x".repeat(200))));
close("a reason of 124 bytes is a SyntaxError, one of 123 is not", (stand) => {
  throws("SyntaxError", () => stand.make().close(1000, "x".repeat(124)));
  throws("SyntaxError", () => stand.make().close(1000, "ä".repeat(62)));
  stand.make().close(1000, "x".repeat(123));
});
close("bad arguments are refused in any state", async (stand) => {
  const socket = await stand.open();
  socket.close();
  throws("InvalidAccessError", () => socket.close(1));
  await event(socket, "close");
  throws("InvalidAccessError", () => socket.close(1));
  throws("SyntaxError", () => socket.close(1000, "x".repeat(124)));
});
close("while CONNECTING makes it CLOSING at once, and fires error and close in a later turn", async (stand) => {
  const socket = stand.make();
  const seen = [];
  for (const type of ["error", "close"]) socket.addEventListener(type, (it) => seen.push(it.type, socket.readyState));
  socket.close();
  same(socket.readyState, 2);
  await Promise.resolve();
  sameList(seen, []);
  same(socket.readyState, 2);
  const { code, reason, wasClean } = await event(socket, "close");
  sameList([code, wasClean], [1006, false]);
  same(typeof reason, "string");
  sameList(seen, ["error", 3, "close", 3]);
});
close("while CONNECTING leaves no reason", async (stand) => {
  const socket = stand.make();
  socket.close(3000, "mine");
  same((await event(socket, "close")).reason, "");
});
close("when OPEN makes it CLOSING at once, and CLOSED with close, without error", async (stand) => {
  const socket = await stand.open();
  let errors = 0;
  socket.onerror = () => { errors += 1; };
  socket.close(3001, "mine");
  same(socket.readyState, 2);
  await Promise.resolve();
  same(socket.readyState, 2);
  const closed = await event(socket, "close");
  sameList([closed.code, closed.reason, closed.wasClean, socket.readyState, errors], [3001, "mine", true, 3, 0]);
});
close("without arguments the code is 1005", async (stand) => {
  const socket = await stand.open();
  socket.close();
  const { code, reason, wasClean } = await event(socket, "close");
  sameList([code, reason, wasClean], [1005, "", true]);
});
close("for a second time changes nothing", async (stand) => {
  const socket = await stand.open();
  let closes = 0;
  socket.onclose = () => { closes += 1; };
  socket.close(3001, "first");
  socket.close(3002, "second");
  same((await event(socket, "close")).code, 3001);
  socket.close();
  await turn();
  sameList([closes, socket.readyState], [1, 3]);
});
close("lets what was sent before it arrive", async (stand) => {
  const watcher = await stand.open("/seen?name=last");
  const socket = await stand.open("/tell?name=last");
  const seen = event(watcher, "message");
  const closed = event(socket, "close");
  socket.send("last words");
  socket.close();
  same((await seen).data, "last words");
  await closed;
  same(socket.bufferedAmount, 0);
});
close("half a pair in the reason is the replacement character", async (stand) => {
  const socket = await stand.open();
  socket.close(3000, "a\ud800");
  same((await event(socket, "close")).reason, "a\ufffd");
});
close("in the handler of a message stops the messages behind it", async (stand) => {
  const socket = await stand.open("/burst");
  let messages = 0;
  socket.onmessage = () => {
    messages += 1;
    socket.close();
  };
  socket.send("ten, please");
  await event(socket, "close");
  same(messages, 1);
});
close("in the handler of open is fine", async (stand) => {
  const socket = stand.make();
  socket.onopen = () => socket.close(3003);
  same((await event(socket, "close")).code, 3003);
});

const feedback = section("feedback from the protocol");

feedback("open is a plain event, once", async (stand) => {
  const socket = stand.make();
  const opened = await event(socket, "open");
  sameList([opened.constructor, opened.bubbles, opened.cancelable, opened.target === socket, socket.readyState], [Event, false, false, true, 1]);
});
feedback("a text is a MessageEvent with the URL's origin", async (stand) => {
  const socket = await stand.open();
  const message = event(socket, "message");
  socket.send("text");
  const it = await message;
  same(it instanceof MessageEvent, true);
  sameList([it.data, it.origin, it.lastEventId, it.source, it.ports.length, it.bubbles, it.cancelable], ["text", stand.base, "", null, 0, false, false]);
});
feedback("events are the browser's own, so isTrusted", async (stand) => {
  const socket = stand.make();
  same((await event(socket, "open")).isTrusted, true);
});
feedback("bytes are a Blob or an ArrayBuffer, by binaryType at the message", async (stand) => {
  const socket = await stand.open();
  const blob = await stand.echo(socket, Uint8Array.of(1, 2));
  sameList([blob instanceof Blob, blob.size, blob.type], [true, 2, ""]);
  socket.binaryType = "arraybuffer";
  const buffer = await stand.echo(socket, Uint8Array.of(1, 2));
  sameList([buffer instanceof ArrayBuffer, buffer.byteLength], [true, 2]);
});
feedback("an empty message of bytes arrives", async (stand) => {
  const socket = await stand.open();
  socket.binaryType = "arraybuffer";
  same((await stand.echo(socket, new Uint8Array(0))).byteLength, 0);
});
feedback("a megabyte comes back", async (stand) => {
  const socket = await stand.open();
  socket.binaryType = "arraybuffer";
  same((await stand.echo(socket, new Uint8Array(1_000_000))).byteLength, 1_000_000);
});
for (const [code, reason] of [[1000, "done"], [1001, "away"], [3999, "ä"], [4999, ""]]) {
  feedback(`the server's close ${code} is told as it is`, async (stand) => {
    const socket = await stand.open("/close");
    const closed = event(socket, "close");
    socket.send(`${code} ${reason}`);
    const it = await closed;
    same(it instanceof CloseEvent, true);
    sameList([it.code, it.reason, it.wasClean, it.bubbles, it.cancelable, socket.readyState], [code, reason, true, false, false, 3]);
  });
}
feedback("the server's close without a code is 1005", async (stand) => {
  const socket = await stand.open("/close");
  socket.send("none");
  const { code, wasClean } = await event(socket, "close");
  sameList([code, wasClean], [1005, true]);
});
feedback("a port where nobody listens is error and then close 1006", async (stand) => {
  const socket = stand.at("ws://127.0.0.1:10/");
  const seen = [];
  socket.onerror = (it) => seen.push(it.type, it.constructor === Event, socket.readyState);
  const { code, wasClean, reason } = await event(socket, "close");
  sameList(seen, ["error", true, 3]);
  sameList([code, wasClean, reason], [1006, false, ""]);
});
feedback("an answer that is no upgrade is error and then close 1006", async (stand) => {
  const socket = stand.at(`${location.origin.replace("http", "ws")}/refuse`);
  let errors = 0;
  socket.onerror = () => { errors += 1; };
  const { code, wasClean } = await event(socket, "close");
  sameList([code, wasClean, errors], [1006, false, 1]);
});
feedback("a connection that is cut is close 1006", async (stand) => {
  const socket = await stand.open("/cut");
  const closed = event(socket, "close");
  socket.send("now");
  const { code, wasClean } = await closed;
  sameList([code, wasClean], [1006, false]);
});
feedback("nothing is fired after close", async (stand) => {
  const socket = await stand.open("/burst");
  socket.send("ten, please");
  socket.close();
  await event(socket, "close");
  let after = 0;
  for (const type of ["open", "message", "error", "close"]) socket.addEventListener(type, () => { after += 1; });
  await turn();
  await turn();
  same(after, 0);
});
