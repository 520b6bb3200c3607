/** Types as a consumer sees them: compiled against the built package, never run. */
import { TidegateSocket, type NoticeDetail, type TidegateOptions } from "tidegate-client";

/** Libraries take a WebSocket class, and use it as one. */
export const Ctor: typeof WebSocket = TidegateSocket;
export const Bound: typeof WebSocket = TidegateSocket.with({ language: "en" });

export function use(socket: TidegateSocket): WebSocket {
  socket.onopen = (event) => event.timeStamp;
  socket.onmessage = (event: MessageEvent<string>) => event.data.length;
  socket.onclose = ({ code, reason, wasClean }) => [code, reason, wasClean];
  socket.onclose = null;
  socket.binaryType = "arraybuffer";
  socket.send("text");
  socket.send(new Uint8Array(1));
  socket.send(new Blob([]));
  socket.close(1000, "done");

  socket.addEventListener("message", (event) => event.data);
  socket.addEventListener("notice", ({ detail }) => detail.slotMs.toFixed());
  socket.addEventListener("moved", ({ detail }) => detail.hub.length);
  socket.addEventListener("recalled", ({ detail }) => detail.drain.length);
  socket.addEventListener("reconnecting", ({ detail }) => detail.afterMs.toFixed());
  socket.addEventListener("resumed", ({ detail }) => detail.downMs.toFixed());
  socket.addEventListener("gap", ({ detail }) => detail.to - detail.from);
  socket.addEventListener("reset", (event) => {
    event.preventDefault();
    for (const message of event.detail.unsent) socket.send(message);
  });
  socket.addEventListener("made-up", { handleEvent() {} });
  // @ts-expect-error: a notice has no such detail
  socket.addEventListener("notice", ({ detail }) => detail.colour);

  const notice: Promise<NoticeDetail> = socket.draining;
  void notice;
  const session: string | null = socket.session;
  void session;
  socket.busy(5_000, "typing");
  socket.ready();
  const open: 1 = socket.OPEN;
  const closed: 3 = TidegateSocket.CLOSED;
  void [open, closed];
  // @ts-expect-error: a number is not sendable
  socket.send(7);
  // @ts-expect-error: read only, as in a browser
  socket.readyState = 1;
  return socket;
}

export const options: TidegateOptions[] = [
  {},
  { token: "jwt", WebSocket, maxBuffered: 1, overflow: "throw", connectTimeout: 1 },
  { token: () => "jwt" },
  { token: async () => "jwt", readiness: () => ({ busy: 1_000, why: "typing" }) },
  { readiness: async () => true, allowHosts: ["b.example"], language: "en", heartbeat: 1 },
  { readiness: () => undefined, allowHosts: "any" },
  // @ts-expect-error: there is no such policy
  { overflow: "drop" },
];
