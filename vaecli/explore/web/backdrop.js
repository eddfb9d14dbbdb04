/** What lies behind the points: pictures that the model draws all over the plane. */

import { context, newCanvas, paint, pixels } from "./pictures.js";

const CELLS = 14; // on a side
const LARGEST = 64; // pixels of a picture's side

export class Backdrop {
  /**
   * @param {import("./network.js").Network} network
   * @param {() => Promise<void>} pause  Between batches.
   */
  constructor(network, pause) {
    this.network = network;
    this.pause = pause;
    this._number = 0;
  }

  /** Draw nothing any more. */
  stop() {
    this._number++;
  }

  /**
   * Decode a grid over the plane, a few pictures at a time, so that nothing waits for it. A newer call ends an older one.
   *
   * @param {(column: number, row: number, side: number) => import("./prior.js").Latent} latentAt
   * @param {number | null} label
   * @param {(picture: HTMLCanvasElement) => void} grown  After each row.
   */
  async draw(latentAt, label, grown) {
    const number = ++this._number;
    const { shape } = this.network.contents;
    const [, height, width] = shape;
    const scale = Math.min(1, LARGEST / Math.max(width, height));
    const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
    const grid = newCanvas(CELLS * wide, CELLS * high);
    const small = newCanvas(width, height);
    for (let row = 0; row < CELLS; row++) {
      for (let first = 0; first < CELLS; ) {
        const many = Math.min(this.network.batch, CELLS - first);
        const latents = Array.from({ length: many }, (_, index) => latentAt(first + index, row, CELLS));
        const values = await this.network.decode(latents, label);
        await this.pause();
        if (number !== this._number) return;
        latents.forEach((_, index) => {
          paint(small, pixels(values, shape, index));
          context(grid).drawImage(small, (first + index) * wide, row * high, wide, high);
        });
        first += many;
      }
      grown(grid);
    }
  }
}
