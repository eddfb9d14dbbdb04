/** A sheet to draw on with mouse, finger, pen or keys. */

import { context } from "./pictures.js";

const THICKNESS = 1 / 12; // of a line, as a share of the sheet's width
const PEN_STEP = 1 / 24; // of the sheet, that an arrow key moves the pen

/** @typedef {[number, number]} Place  In pixels of the canvas. */

export class Sheet {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {HTMLElement} pen  A mark over the canvas, where the keys have the pen.
   * @param {() => void} changed  After each piece of a line.
   */
  constructor(canvas, pen, changed) {
    this.canvas = canvas;
    this.pen = pen;
    this.changed = changed;
    this.colour = "#fff";
    this.paper = "#000";
    this._listenToPointers();
    this._listenToKeys();
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

  /** @param {Place} from @param {Place} to */
  _line(from, to) {
    const drawing = context(this.canvas);
    drawing.strokeStyle = this.colour;
    drawing.lineWidth = this.canvas.width * THICKNESS;
    drawing.lineCap = "round";
    drawing.beginPath();
    drawing.moveTo(...from);
    drawing.lineTo(...to);
    drawing.stroke();
    this.changed();
  }

  _listenToPointers() {
    const { canvas } = this;
    /** @type {Place | null} */
    let last = null;
    const at = (/** @type {PointerEvent} */ event) => {
      const box = canvas.getBoundingClientRect();
      const scale = canvas.width / box.width;
      return /** @type {Place} */ ([(event.clientX - box.left) * scale, (event.clientY - box.top) * scale]);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      canvas.setPointerCapture(event.pointerId);
      last = at(event);
      this._line(last, last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last || !event.isPrimary) return;
      const next = at(event);
      this._line(last, next);
      last = next;
    });
    for (const name of /** @type {const} */ (["pointerup", "pointercancel"])) {
      canvas.addEventListener(name, () => (last = null));
    }
  }

  _listenToKeys() {
    const { canvas, pen } = this;
    /** @type {Place} */
    let at = [canvas.width / 2, canvas.height / 2];
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    canvas.addEventListener("keydown", (event) => {
      if (!(event.key in moves)) return;
      event.preventDefault();
      const [right, down] = moves[/** @type {keyof typeof moves} */ (event.key)];
      const step = canvas.width * PEN_STEP;
      const inside = (/** @type {number} */ value, /** @type {number} */ most) => Math.min(most, Math.max(0, value));
      const next = /** @type {Place} */ ([
        inside(at[0] + right * step, canvas.width),
        inside(at[1] + down * step, canvas.height),
      ]);
      if (event.shiftKey) this._line(at, next);
      at = next;
      pen.hidden = false;
      pen.style.left = `${(100 * at[0]) / canvas.width}%`;
      pen.style.top = `${(100 * at[1]) / canvas.height}%`;
    });
    canvas.addEventListener("blur", () => (pen.hidden = true));
  }
}
