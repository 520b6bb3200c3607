export { TidegateSocket } from "./socket.js";
export { CLOSE } from "./close.js";
export { TidegateEvent } from "./events.js";
export type {
  BarredDetail,
  GapDetail,
  MovedDetail,
  NoticeDetail,
  RecalledDetail,
  ReconnectingDetail,
  ResetDetail,
  ResumedDetail,
  TidegateSocketEventMap,
} from "./events.js";
export type { Address } from "./home.js";
export type { Environment, Readiness, TidegateOptions } from "./options.js";
export type { Sendable, Sent } from "./sender.js";
export type { Transport, TransportClass } from "./transport.js";
