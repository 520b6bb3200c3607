// What the checks of the WebSocket interface run against: a plain server for the browser's own class, the same server
// behind a hub for ours, and a page with both.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(new URL("../../../client-sdk-js/package.json", import.meta.url));
const { WebSocketServer } = require("ws");

const SDK = fileURLToPath(new URL("../../../client-sdk-js/dist/tidegate.js", import.meta.url));
const PAGE = "<!doctype html><meta charset=utf-8><title>checks</title><body>";

/** Watchers of `/seen`, by name: they are sent what comes to `/tell`. */
const watchers = new Map();

/** What the server does on a connection, by path. */
const DOES = {
  "/echo": (socket) => socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })),
  "/protocol": () => {},
  "/count": (socket) => {
    let bytes = 0;
    socket.on("message", (data, isBinary) => {
      if (isBinary) bytes += data.length;
      else socket.send(String(bytes));
    });
  },
  "/burst": (socket) => socket.on("message", () => {
    for (let n = 0; n < 10; n += 1) socket.send(`${n}`);
  }),
  "/close": (socket) => socket.on("message", (data) => {
    const [code, reason] = String(data).split(" ");
    if (code === "none") socket.close();
    else socket.close(Number(code), reason);
  }),
  "/cut": (socket) => socket.on("message", () => socket.terminate()),
  "/seen": (socket, name) => watchers.set(name, socket),
  "/tell": (socket, name) => socket.on("message", (data) => watchers.get(name)?.send(String(data))),
};

/** Starts the page's server, which is the WebSocket server too. */
export async function startServer() {
  const files = { "/sdk.js": SDK };
  for (const name of ["harness.js", "interface.js", "transfer.js"]) files[`/${name}`] = fileURLToPath(new URL(name, import.meta.url));
  const server = createServer(async (request, response) => {
    const file = files[request.url];
    response.setHeader("content-type", `text/${file === undefined ? "html" : "javascript"}; charset=utf-8`);
    response.end(file === undefined ? PAGE : await readFile(file));
  });
  const verifyClient = ({ req }) => req.url !== "/refuse";
  const sockets = new WebSocketServer({ server, verifyClient, handleProtocols: (offered) => (offered.has("chat") ? "chat" : false) });
  sockets.on("connection", (socket, request) => {
    const { pathname, searchParams } = new URL(request.url, "http://localhost");
    socket.on("error", () => {});
    DOES[pathname]?.(socket, searchParams.get("name"));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    address: `127.0.0.1:${server.address().port}`,
    async stop() {
      for (const client of sockets.clients) client.terminate();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** An expression that runs all checks in the page: with the browser's own class, or with ours. */
export function expression(whose, base) {
  return `Promise.all([import("/harness.js"), import("/interface.js"), import("/transfer.js"), import("/sdk.js")])
    .then(([{ run }, , , { TidegateSocket }]) => run(${whose === "native" ? "WebSocket" : "TidegateSocket"}, ${JSON.stringify(base)}))`;
}
