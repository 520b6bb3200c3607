/** A consumer without the DOM library and without Node's types: compiled against the built package, never run. */
import { CLOSE, TidegateSocket, type NoticeDetail, type TidegateOptions, type TransportClass } from "tidegate-client";

declare const transport: TransportClass;

const options: TidegateOptions = { WebSocket: transport, token: async () => "jwt", maxBuffered: 1 };
const socket = new TidegateSocket(() => "wss://chat.example.com/connect", "chat", options);
socket.onmessage = (event) => socket.send(String(event.data));
socket.onclose = ({ code, reason, wasClean }) => [code === CLOSE.reset, reason.length, wasClean];
socket.onopen = (event) => event.type.length;
socket.addEventListener("notice", ({ detail }) => detail.slotMs.toFixed());
socket.addEventListener("barred", ({ detail }) => detail.url.length);
socket.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const message of event.detail.unsent) socket.send(message);
});
socket.send(new Uint8Array(1));
// @ts-expect-error: a number is not sendable
socket.send(7);
// @ts-expect-error: a notice has no such detail
socket.addEventListener("notice", ({ detail }) => detail.colour);
const state: 0 | 1 | 2 | 3 = socket.readyState;
const notice: Promise<NoticeDetail> = socket.draining;
export { notice, state };
