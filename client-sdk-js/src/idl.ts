/** Makes a class look as Web IDL makes a browser's interfaces look: constants that stay, members that can be listed. */

/**
 * Gives a class its constants, on itself and on its prototype, and makes its members enumerable.
 *
 * @param create - the class
 * @param tag - what `Object.prototype.toString` says of its objects
 * @param constants - by name
 */
export function asInterface(
  create: { readonly prototype: object },
  tag: string,
  constants: Readonly<Record<string, number>>,
): void {
  const { prototype } = create;
  for (const name of Object.getOwnPropertyNames(prototype)) {
    if (name !== "constructor") Object.defineProperty(prototype, name, { enumerable: true });
  }
  for (const [name, value] of Object.entries(constants)) {
    for (const place of [create, prototype]) Object.defineProperty(place, name, { value, enumerable: true });
  }
  Object.defineProperty(prototype, Symbol.toStringTag, { value: tag, configurable: true });
}

/**
 * A number as Web IDL's `[Clamp] unsigned short`.
 *
 * @param value - anything
 */
export function clampedShort(value: unknown): number {
  const number = Number(value);
  if (Number.isNaN(number)) return 0;
  const bounded = Math.min(Math.max(number, 0), 65_535);
  const below = Math.floor(bounded);
  // Half is rounded to the even neighbour.
  if (bounded - below === 0.5) return below % 2 === 0 ? below : below + 1;
  return Math.round(bounded);
}
