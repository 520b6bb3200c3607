// Outlives the demo by a moment: when the pipe from it ends, whatever is still there is ended and the
// directory removed. So a demo that was killed without a word leaves nothing behind either.

import { rmSync } from "node:fs";
import { createInterface } from "node:readline";

/** Time between asking and forcing, in milliseconds. */
const END_MS = 3_000;

const [directory] = process.argv.slice(2);
const watched = new Set();

// The demo decides when it ends, not the terminal.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => {});

function signalAll(name) {
  for (const pid of watched) {
    try {
      process.kill(pid, name);
    } catch {
      watched.delete(pid);
    }
  }
}

createInterface({ input: process.stdin })
  .on("line", (line) => {
    const pid = Number(line.slice(1));
    if (line.startsWith("+")) watched.add(pid);
    else watched.delete(pid);
  })
  .on("close", () => {
    const since = Date.now();
    signalAll("SIGTERM");
    const look = setInterval(() => {
      signalAll(0);
      if (watched.size > 0 && Date.now() - since < END_MS) return;
      clearInterval(look);
      signalAll("SIGKILL");
      rmSync(directory, { recursive: true, force: true });
    }, 50);
  });
