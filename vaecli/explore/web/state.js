/** Where the visitor is: one latent, one class, and who wants to know when that changes. */

/** @typedef {import("./prior.js").Latent} Latent */

export class State {
  /** @param {Latent} latent @param {number | null} label */
  constructor(latent, label) {
    this.latent = Float32Array.from(latent);
    /** Of a conditional model: the class that everything is taken for. Null of all others. @type {number | null} */
    this.label = label;
    /** @type {(() => void)[]} */
    this._listeners = [];
  }

  /** Call `listener` after each change. @param {() => void} listener */
  subscribe(listener) {
    this._listeners.push(listener);
  }

  /** Go to a latent, and perhaps to another class. @param {Latent} latent @param {number | null} [label] */
  go(latent, label = this.label) {
    this.latent = Float32Array.from(latent);
    this.label = label;
    for (const listener of this._listeners) listener();
  }
}
