/** A promise with its resolver. */
export class Deferred<T> {
  /** It. */
  readonly promise: Promise<T>;
  #resolve!: (value: T) => void;
  #isResolved = false;

  constructor() {
    this.promise = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /**
   * Resolves it; for the second time nothing happens.
   *
   * @param value - what it comes to
   */
  resolve(value: T): void {
    this.#isResolved = true;
    this.#resolve(value);
  }

  /** Itself while it is open, a new one after. */
  next(): Deferred<T> {
    return this.#isResolved ? new Deferred() : this;
  }
}
