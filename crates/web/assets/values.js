// Errors that the component receives as values.

/** An error whose payload becomes the error value of a `result`. Every other error that an import throws is a trap. */
export class ValueError extends Error {
  constructor(payload) {
    super(`the error value ${JSON.stringify(payload) ?? ""}`);
    this.payload = payload;
  }
}

/** The symbol of the method that drops a resource. */
export const dispose = Symbol.dispose ?? Symbol.for("dispose");
