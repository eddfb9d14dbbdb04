/** Work that is asked for faster than it is done. */

import { fail } from "./notices.js";

/** Work of which one run is enough for all that was asked for while another one ran. */
export class Newest {
  /** How many of these are at work now. */
  static working = 0;

  /** @param {() => Promise<void>} work */
  constructor(work) {
    this._work = work;
    this._asked = false;
    this.busy = false;
  }

  async run() {
    this._asked = true;
    if (this.busy) return;
    this.busy = true;
    Newest.working++;
    try {
      while (this._asked) {
        this._asked = false;
        await this._work();
        await nextFrame();
      }
    } catch (error) {
      fail(error);
    } finally {
      this.busy = false;
      Newest.working--;
    }
  }
}

function nextFrame() {
  return new Promise((resolve) => {
    requestAnimationFrame(resolve);
    setTimeout(resolve, 50); // a page that is not seen has no frames
  });
}
