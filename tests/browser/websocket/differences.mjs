// Where `TidegateSocket` differs from the browser's own class, check by check, each with its reason; and what a
// browser's own class does otherwise than the standard says. A check that stands here and passes is a failure, too.

/** Of ours: in every browser, and in one of them because its own class differs there. */
export const OURS = {
  everywhere: {
    "interface: the class is called WebSocket":
      "it is called TidegateSocket, so that an error's stack and a debugger tell the two apart",
    "interface: its objects are instanceof WebSocket":
      "they are objects of another class; a page that needs this puts TidegateSocket in the place of WebSocket, and then they are",
    "interface: it lists nothing that WebSocket has not": "it has more: session, draining, ready and busy",
    "feedback from the protocol: events are the browser's own, so isTrusted":
      "only the browser itself can make an event that is trusted",
    "feedback from the protocol: the server's close 1001 is told as it is":
      "1001 says that the app goes away: the session outlives that, and the hub looks for the app again",
    "feedback from the protocol: a connection that is cut is close 1006":
      "the end of a connection is no end of a session, be it the client's or the app's",
  },
  chromium: {},
  firefox: {},
};

/** Of a browser's own class. */
export const NATIVE = {
  chromium: {
    "close(): the code 2999.5 is taken": "Chromium cuts the fraction off where Web IDL's [Clamp] rounds",
  },
  firefox: {
    "constructor: a relative URL is the page's": "Firefox 140 takes no relative URL yet; the standard has had them since 2023",
  },
};
