// The standard's section "The WebSocket interface": the class, its constants and attributes, the constructor's arguments.
// https://websockets.spec.whatwg.org/#the-websocket-interface, and Web IDL for what an interface looks like.

import { event, same, sameList, section, throws, turn } from "./harness.js";

const CONSTANTS = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 };

const look = section("interface");

for (const [name, value] of Object.entries(CONSTANTS)) {
  look(`${name} is ${value}, on the class and on its objects, and stays`, ({ Socket }) => {
    for (const place of [Socket, Socket.prototype]) {
      const { value: found, writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(place, name);
      sameList([found, writable, enumerable, configurable], [value, false, true, false]);
    }
  });
  look(`${name} is not an object's own, and cannot be set or deleted`, (stand) => {
    const { Socket } = stand;
    const socket = stand.make();
    same(Object.hasOwn(socket, name), false);
    throws("TypeError", () => { socket[name] = 7; });
    throws("TypeError", () => { delete Socket[name]; });
    same(socket[name], value);
  });
}

for (const name of ["url", "readyState", "bufferedAmount", "extensions", "protocol"]) {
  look(`${name} is a getter of the prototype, listed, and cannot be set`, (stand) => {
    const { get, set, enumerable, configurable } = Object.getOwnPropertyDescriptor(stand.Socket.prototype, name);
    sameList([typeof get, set, enumerable, configurable], ["function", undefined, true, true]);
    throws("TypeError", () => { stand.make()[name] = 7; });
  });
}

for (const name of ["onopen", "onerror", "onclose", "onmessage", "binaryType"]) {
  look(`${name} is an attribute of the prototype, listed, and can be set`, ({ Socket }) => {
    const { get, set, enumerable, configurable } = Object.getOwnPropertyDescriptor(Socket.prototype, name);
    sameList([typeof get, typeof set, enumerable, configurable], ["function", "function", true, true]);
  });
}

for (const [name, length] of [["send", 1], ["close", 0]]) {
  look(`${name} is a listed method with ${length} needed arguments`, ({ Socket }) => {
    const { value, enumerable, writable, configurable } = Object.getOwnPropertyDescriptor(Socket.prototype, name);
    sameList([value.length, enumerable, writable, configurable], [length, true, true, true]);
  });
}

look("addEventListener and its like are those of EventTarget", ({ Socket }) => {
  same(Object.getPrototypeOf(Socket), EventTarget);
  for (const name of ["addEventListener", "removeEventListener", "dispatchEvent"]) same(Object.hasOwn(Socket.prototype, name), false, name);
});

look("its objects are [object WebSocket]", ({ Socket }) => {
  const { value, writable, enumerable, configurable } = Object.getOwnPropertyDescriptor(Socket.prototype, Symbol.toStringTag);
  sameList([value, writable, enumerable, configurable], ["WebSocket", false, false, true]);
});

look("the class has one needed argument", ({ Socket }) => same(Socket.length, 1));
look("the class is called WebSocket", ({ Socket }) => same(Socket.name, "WebSocket"));
look("its objects are instanceof WebSocket", (stand) => same(stand.make() instanceof WebSocket, true));
look("it lists nothing that WebSocket has not", ({ Socket }) => {
  const list = (prototype) => {
    const names = [];
    for (const name in prototype) names.push(name);
    return names.sort();
  };
  sameList(list(Socket.prototype), list(WebSocket.prototype));
});

const constructor = section("constructor");

constructor("without new it is a TypeError", ({ Socket }) => throws("TypeError", () => Socket("ws://127.0.0.1:8/")));
constructor("without a URL it is a TypeError", ({ Socket }) => throws("TypeError", () => new Socket()));
for (const url of ["ws://", "ftp://example.com/", "mailto:a@example.com", "javascript:1", "ws://example.com:99999/", "about:blank"]) {
  constructor(`the URL ${url} is a SyntaxError`, ({ Socket }) => throws("SyntaxError", () => new Socket(url)));
}
constructor("a Symbol as URL is a TypeError", ({ Socket }) => throws("TypeError", () => new Socket(Symbol("url"))));
for (const url of ["ws://127.0.0.1:8/#", "ws://127.0.0.1:8/#part", "http://127.0.0.1:8/#x"]) {
  constructor(`the fragment of ${url} is a SyntaxError`, ({ Socket }) => throws("SyntaxError", () => new Socket(url)));
}
for (const [given, url] of [
  ["WS://127.0.0.1:8/A?b", "ws://127.0.0.1:8/A?b"],
  ["http://127.0.0.1:8", "ws://127.0.0.1:8/"],
  ["https://127.0.0.1:8/x", "wss://127.0.0.1:8/x"],
  ["ws://127.0.0.1:80/", "ws://127.0.0.1/"],
  ["wss://127.0.0.1:443/", "wss://127.0.0.1/"],
  ["ws://127.0.0.1:8/a b/../ü?ü", "ws://127.0.0.1:8/%C3%BC?%C3%BC"],
  ["ws://127.0.0.1:8/\ud800", "ws://127.0.0.1:8/%EF%BF%BD"],
]) {
  constructor(`the URL ${given.replace("\ud800", "…half a pair")} is ${url}`, (stand) => same(stand.at(given).url, url));
}
constructor("a relative URL is the page's", (stand) => {
  same(stand.at("/path?query").url, `${location.origin.replace("http", "ws")}/path?query`);
  same(stand.at("").url, location.href.replace("http", "ws"));
});
constructor("a URL object is taken for its text", (stand) => same(stand.at(new URL("ws://127.0.0.1:8/x")).url, "ws://127.0.0.1:8/x"));

for (const [what, protocols] of [
  ["an empty one", ""], ["a space", "a b"], ["a comma", "a,b"], ["a control character", "a\u0001"], ["a letter that is not ASCII", "ü"],
  ["a separator", "a/b"], ["one in a list", ["chat", "a;b"]], ["a repeated one", ["chat", "chat"]], ["an object", {}], ["half a pair", "\ud800"],
]) {
  constructor(`subprotocols with ${what} are a SyntaxError`, ({ Socket }) => throws("SyntaxError", () => new Socket("ws://127.0.0.1:8/", protocols)));
}
constructor("a Symbol as subprotocol is a TypeError", ({ Socket }) => {
  throws("TypeError", () => new Socket("ws://127.0.0.1:8/", Symbol("chat")));
  throws("TypeError", () => new Socket("ws://127.0.0.1:8/", [Symbol("chat")]));
});
for (const [what, protocols] of [
  ["undefined", undefined], ["an empty list", []], ["null, a text", null], ["a number, a text", 7], ["a Set", new Set(["a", "b"])],
  ["a list of numbers", [1, 2]], ["two that differ in case", ["Chat", "chat"]],
]) {
  constructor(`subprotocols may be ${what}`, (stand) => same(stand.make("/echo", protocols).readyState, 0));
}

const attributes = section("attributes");

attributes("a new socket is CONNECTING, with nothing chosen and nothing waiting", (stand) => {
  const socket = stand.make();
  sameList([socket.readyState, socket.protocol, socket.extensions, socket.bufferedAmount, socket.binaryType], [0, "", "", 0, "blob"]);
});
attributes("an open socket tells the server's choice of the subprotocols", async (stand) => {
  const socket = await stand.open("/protocol", ["superchat", "chat"]);
  sameList([socket.readyState, socket.protocol], [1, "chat"]);
});
attributes("an open socket without subprotocols has none", async (stand) => same((await stand.open()).protocol, ""));
attributes("the same object before and after it is open tells url alike", async (stand) => {
  const socket = stand.make("/echo?x=1");
  const before = socket.url;
  await event(socket, "open");
  same(socket.url, before);
});
attributes("binaryType takes its two values, and nothing else", (stand) => {
  const socket = stand.make();
  for (const type of ["arraybuffer", "blob", "arraybuffer"]) {
    socket.binaryType = type;
    same(socket.binaryType, type);
  }
  for (const type of ["Blob", "", "nonsense", null, undefined, 7]) socket.binaryType = type;
  same(socket.binaryType, "arraybuffer");
});
attributes("open is fired in a turn of its own, after the constructor's", async (stand) => {
  const socket = stand.make();
  let opened = false;
  socket.onopen = () => { opened = true; };
  await Promise.resolve();
  same(opened, false);
  await event(socket, "open");
  same(opened, true);
});

const handlers = section("event handlers");

for (const type of ["open", "error", "close", "message"]) {
  handlers(`on${type} is null at first, keeps a function, and drops what is no object`, (stand) => {
    const socket = stand.make();
    const name = `on${type}`;
    same(socket[name], null);
    const handler = () => {};
    socket[name] = handler;
    same(socket[name], handler);
    for (const nothing of [undefined, null, 1, "x", true]) {
      socket[name] = handler;
      socket[name] = nothing;
      same(socket[name], null, String(nothing));
    }
  });
  handlers(`on${type} keeps an object that cannot be called, and does not call it`, (stand) => {
    const socket = stand.make();
    const object = { handleEvent() { throw new Error("called"); } };
    socket[`on${type}`] = object;
    same(socket[`on${type}`], object);
    socket.dispatchEvent(new Event(type));
  });
  handlers(`on${type} is called with the socket as this, and the event`, (stand) => {
    const socket = stand.make();
    const seen = [];
    socket[`on${type}`] = function (...args) { seen.push(this === socket, args.length, args[0].type); };
    socket.dispatchEvent(new Event(type));
    sameList(seen, [true, 1, type]);
  });
}
handlers("keep their place among the listeners when they are replaced, and lose it by null", (stand) => {
  const socket = stand.make();
  const order = [];
  socket.onmessage = () => order.push("first");
  socket.addEventListener("message", () => order.push("listener"));
  socket.onmessage = () => order.push("replaced");
  socket.dispatchEvent(new Event("message"));
  socket.onmessage = null;
  socket.onmessage = () => order.push("anew");
  socket.dispatchEvent(new Event("message"));
  sameList(order, ["replaced", "listener", "listener", "anew"]);
});
handlers("say by false that the event's default is not wanted", (stand) => {
  const socket = stand.make();
  socket.onmessage = () => false;
  same(socket.dispatchEvent(new Event("message", { cancelable: true })), false);
});
handlers("that throw do not stop the listeners behind them", async (stand) => {
  const socket = await stand.open();
  const stop = (error) => error.preventDefault();
  addEventListener("error", stop);
  socket.onmessage = () => { throw new Error("on purpose"); };
  same(await stand.echo(socket, "still heard"), "still heard");
  removeEventListener("error", stop);
});
handlers("added while an event is fired are not called for it", async (stand) => {
  const socket = await stand.open();
  let called = 0;
  socket.addEventListener("message", () => socket.addEventListener("message", () => { called += 1; }), { once: true });
  await stand.echo(socket, "one");
  same(called, 0);
  await turn();
  await stand.echo(socket, "two");
  same(called, 1);
});
