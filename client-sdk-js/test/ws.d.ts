/** As much of the `ws` package as the tests use. */
declare module "ws" {
  import type { IncomingMessage, Server } from "node:http";

  export default class WebSocket {
    constructor(url: string, protocols?: string[]);
    binaryType: "nodebuffer" | "arraybuffer" | "fragments";
    readonly readyState: number;
    readonly protocol: string;
    readonly extensions: string;
    onopen: ((event: { type: string }) => void) | null;
    onmessage: ((event: { data: unknown }) => void) | null;
    onerror: ((event: { type: string }) => void) | null;
    onclose: ((event: { code: number; reason: string }) => void) | null;
    send(data: string | ArrayBuffer | Uint8Array): void;
    close(code?: number, reason?: string): void;
    terminate(): void;
    on(event: "message", listener: (data: Uint8Array, isBinary: boolean) => void): this;
    on(event: "close", listener: (code: number, reason: Uint8Array) => void): this;
  }

  export class WebSocketServer {
    constructor(options: {
      port: number;
      host: string;
      handleProtocols?: (protocols: Set<string>, request: IncomingMessage) => string | false;
    });
    address(): { port: number };
    on(event: "connection", listener: (socket: WebSocket, request: IncomingMessage) => void): this;
    on(event: "listening", listener: () => void): this;
    close(done?: () => void): void;
    readonly clients: Set<WebSocket>;
  }
}
