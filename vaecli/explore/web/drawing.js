/** A sheet to draw on with mouse, finger or pen. */

import { context } from "./pictures.js";

export class Sheet {
  /** @param {HTMLCanvasElement} canvas @param {() => void} changed  After each piece of a line. */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.colour = "#fff";
    this.paper = "#000";
    this.width = canvas.width / 12;
    this._listen();
  }

  clear() {
    const drawing = context(this.canvas);
    drawing.fillStyle = this.paper;
    drawing.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Fill the sheet with a picture, cropped to its middle. @param {ImageBitmap} picture */
  show(picture) {
    this.clear();
    const { width, height } = this.canvas;
    const scale = Math.max(width / picture.width, height / picture.height);
    const [wide, high] = [picture.width * scale, picture.height * scale];
    const drawing = context(this.canvas);
    drawing.imageSmoothingEnabled = scale < 1;
    drawing.drawImage(picture, (width - wide) / 2, (height - high) / 2, wide, high);
  }

  _listen() {
    /** @type {[number, number] | null} */
    let last = null;
    const at = (/** @type {PointerEvent} */ event) => {
      const box = this.canvas.getBoundingClientRect();
      const scale = this.canvas.width / box.width;
      return /** @type {[number, number]} */ ([(event.clientX - box.left) * scale, (event.clientY - box.top) * scale]);
    };
    const line = (/** @type {[number, number]} */ from, /** @type {[number, number]} */ to) => {
      const drawing = context(this.canvas);
      drawing.strokeStyle = this.colour;
      drawing.lineWidth = this.width;
      drawing.lineCap = "round";
      drawing.beginPath();
      drawing.moveTo(...from);
      drawing.lineTo(...to);
      drawing.stroke();
      this.changed();
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      last = at(event);
      line(last, last);
    });
    this.canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      const next = at(event);
      line(last, next);
      last = next;
    });
    for (const name of /** @type {const} */ (["pointerup", "pointercancel"])) {
      this.canvas.addEventListener(name, () => (last = null));
    }
  }
}
