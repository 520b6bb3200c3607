// The hub that people would write with `ws`: keeps its sockets, sends a posted text to all of them.
// Prints its ready line when it listens on a free port of 127.0.0.1.

import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const BACKLOG = 4096;

const server = createServer((request, response) => {
  if (request.method !== "POST" || request.url !== "/publish") {
    response.writeHead(404).end();
    return;
  }
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    const text = Buffer.concat(parts).toString();
    for (const socket of sockets.clients) socket.send(text);
    response.writeHead(204).end();
  });
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false });

server.listen({ port: 0, host: "127.0.0.1", backlog: BACKLOG }, () => {
  const address = `127.0.0.1:${server.address().port}`;
  console.log(JSON.stringify({ event: "ready", public: address, private: address }));
});
