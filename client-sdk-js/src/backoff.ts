/**
 * How long to wait before asking again, when no hub gave an order. Full jitter, so that the clients
 * of a dead hub come back spread out; a floor before the first retry too, so that none comes at once.
 */

/** The least wait before any retry, the first included, in milliseconds. */
export const FLOOR_MS = 100;

/** The top of the first wait's range, in milliseconds; it doubles with each failure. */
export const FIRST_MS = 1_000;

/** The longest wait, in milliseconds. */
export const CAP_MS = 20_000;

/** A connection that was good for this long, in milliseconds, sets the count of failures back to zero. */
export const STABLE_MS = 5_000;

/** The most that jitter adds to a wait which a hub ordered, in milliseconds. */
export const ORDER_JITTER_MS = 1_000;

/**
 * The wait before the next try.
 *
 * @param failures - how many tries in a row have failed already; 0 before the first retry
 * @param random - a number in [0, 1)
 * @returns milliseconds, at least {@link FLOOR_MS} and below {@link CAP_MS}
 */
export function backoff(failures: number, random: number): number {
  const top = Math.min(CAP_MS, FIRST_MS * 2 ** Math.min(failures, 16));
  return FLOOR_MS + random * (top - FLOOR_MS);
}

/**
 * The wait that a hub ordered with `retry`, never shortened, with a little jitter on top.
 *
 * @param afterMs - what the hub said, in milliseconds
 * @param random - a number in [0, 1)
 */
export function ordered(afterMs: number, random: number): number {
  const base = Math.max(FLOOR_MS, afterMs);
  return base + random * Math.min(base / 4, ORDER_JITTER_MS);
}

/**
 * The count of failures to go on with after a connection was lost. A short success counts as one
 * more failure, or a hub that accepts and drops would be asked in a loop without end.
 *
 * @param failures - the count when the connection opened
 * @param upMs - for how long it was open, in milliseconds
 */
export function afterUptime(failures: number, upMs: number): number {
  return upMs >= STABLE_MS ? 0 : failures + 1;
}
