/** A scatter plot: points on a canvas, marks, what lies behind them; pointer and keys. */

const NEAR = 14; // pixels from a point, within which it is meant
const MARGIN = 1.12; // of the view around the points
const STEP = 1 / 40; // of the view, that an arrow key moves

/**
 * @typedef {object} Mark
 * @property {[number, number]} place
 * @property {string} text  A letter, or nothing for the place where the visitor is.
 */

export class Scatter {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{ move: (x: number, y: number) => void, pick: (index: number) => void,
   *           hover: (index: number | null, left: number, top: number) => void }} on
   */
  constructor(canvas, on) {
    this.canvas = canvas;
    this.on = on;
    /** @type {[number, number][]} */
    this.places = [];
    /** @type {string[]} */
    this.colours = [];
    /** Which points are shown strongly; all, where there is none. @type {((index: number) => boolean) | null} */
    this.chosen = null;
    /** @type {HTMLCanvasElement | null} */
    this.backdrop = null;
    /** @type {Map<string, Mark>} */
    this.marks = new Map();
    /** @type {[number, number][]} */
    this.line = [];
    this.half = 3;
    this.middle = [0, 0];
    this._dragging = false;
    this._frame = 0;
    this._listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  /** @param {[number, number][]} places @param {string[]} colours @param {number} least  The least half of a side. */
  setPoints(places, colours, least) {
    this.places = places;
    this.colours = colours;
    const sides = [0, 1].map((axis) => bounds(places.map((place) => place[axis])));
    this.middle = sides.map(([low, high]) => (low + high) / 2);
    this.half = Math.max(least, ...sides.map(([low, high]) => ((high - low) / 2) * MARGIN));
    this.draw();
  }

  /** @param {string} name @param {[number, number]} place @param {string} [text] */
  mark(name, place, text = "") {
    this.marks.set(name, { place, text });
    this.draw();
  }

  /** Draw with the next frame of the screen. */
  draw() {
    if (!this._frame) this._frame = requestAnimationFrame(() => this._draw());
  }

  /** The place of the middle of a cell, of `side` x `side` from the top left. @param {number} column @param {number} row @param {number} side @returns {[number, number]} */
  cell(column, row, side) {
    const at = (/** @type {number} */ index) => (2 * (index + 0.5)) / side - 1;
    return [this.middle[0] + at(column) * this.half, this.middle[1] - at(row) * this.half];
  }

  _draw() {
    this._frame = 0;
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const side = Math.round(canvas.clientWidth * ratio);
    if (!side) return;
    if (canvas.width !== side || canvas.height !== side) {
      canvas.width = side;
      canvas.height = side;
    }
    const drawing = canvas.getContext("2d");
    if (!drawing) return;
    const style = getComputedStyle(canvas);
    const [ink, paper] = [style.color, style.backgroundColor];
    drawing.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawing.clearRect(0, 0, side, side);
    if (this.backdrop) {
      drawing.imageSmoothingEnabled = this.backdrop.width > side;
      drawing.drawImage(this.backdrop, 0, 0, canvas.clientWidth, canvas.clientWidth);
    }
    this._drawPoints(drawing, paper);
    this._drawLine(drawing, ink, paper);
    for (const [name, mark] of this.marks) this._drawMark(drawing, name, mark);
  }

  /** @param {CanvasRenderingContext2D} drawing @param {string} paper */
  _drawPoints(drawing, paper) {
    const radius = this.canvas.clientWidth < 420 ? 3 : 4;
    this.places.forEach((place, index) => {
      const [left, top] = this._onScreen(place);
      const strong = !this.chosen || this.chosen(index);
      drawing.globalAlpha = strong ? 1 : 0.12;
      drawing.beginPath();
      drawing.arc(left, top, radius, 0, 2 * Math.PI);
      drawing.fillStyle = this.colours[index];
      drawing.fill();
      drawing.lineWidth = 1;
      drawing.strokeStyle = paper;
      drawing.stroke();
    });
    drawing.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} drawing @param {string} ink @param {string} paper */
  _drawLine(drawing, ink, paper) {
    if (this.line.length < 2) return;
    drawing.lineJoin = "round";
    for (const [width, colour] of /** @type {[number, string][]} */ ([[5, paper], [2.5, ink]])) {
      drawing.beginPath();
      for (const place of this.line) drawing.lineTo(...this._onScreen(place));
      drawing.lineWidth = width;
      drawing.strokeStyle = colour;
      drawing.stroke();
    }
  }

  /** @param {CanvasRenderingContext2D} drawing @param {string} name @param {Mark} mark */
  _drawMark(drawing, name, mark) {
    const side = this.canvas.clientWidth;
    const [left, top] = this._onScreen(mark.place).map((value) => Math.min(side - 4, Math.max(4, value)));
    drawing.beginPath();
    if (name === "here") {
      for (const [radius, width, colour] of /** @type {[number, number, string][]} */ ([
        [12, 6, "#000"],
        [12, 3, "#fff"],
      ])) {
        drawing.beginPath();
        drawing.arc(left, top, radius, 0, 2 * Math.PI);
        drawing.lineWidth = width;
        drawing.strokeStyle = colour;
        drawing.stroke();
      }
      return;
    }
    drawing.arc(left, top, 9, 0, 2 * Math.PI);
    drawing.fillStyle = "#000";
    drawing.fill();
    drawing.lineWidth = 1.5;
    drawing.strokeStyle = "#fff";
    drawing.stroke();
    drawing.fillStyle = "#fff";
    drawing.font = "600 11px system-ui, sans-serif";
    drawing.textAlign = "center";
    drawing.textBaseline = "middle";
    drawing.fillText(mark.text, left, top + 0.5);
  }

  /** @param {[number, number]} place @returns {[number, number]} */
  _onScreen([x, y]) {
    const scale = this.canvas.clientWidth / (2 * this.half);
    return [(x - this.middle[0] + this.half) * scale, (this.middle[1] + this.half - y) * scale];
  }

  /** @param {number} left @param {number} top @returns {[number, number]} */
  _inWorld(left, top) {
    const scale = this.canvas.clientWidth / (2 * this.half);
    return [this.middle[0] - this.half + left / scale, this.middle[1] + this.half - top / scale];
  }

  /** The nearest shown point, or null. @param {number} left @param {number} top */
  _pointAt(left, top) {
    let [best, nearest] = [NEAR, /** @type {number | null} */ (null)];
    this.places.forEach((place, index) => {
      if (this.chosen && !this.chosen(index)) return;
      const [x, y] = this._onScreen(place);
      const away = Math.hypot(x - left, y - top);
      if (away < best) [best, nearest] = [away, index];
    });
    return nearest;
  }

  _listen() {
    const { canvas, on } = this;
    /** @type {[number, number] | null} */
    let pressed = null;
    const at = (/** @type {PointerEvent} */ event) => {
      const box = canvas.getBoundingClientRect();
      return /** @type {[number, number]} */ ([event.clientX - box.left, event.clientY - box.top]);
    };
    const drag = (/** @type {[number, number]} */ [left, top]) => {
      const side = canvas.clientWidth;
      const inside = (/** @type {number} */ value) => Math.min(side, Math.max(0, value));
      on.move(...this._inWorld(inside(left), inside(top)));
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !event.isPrimary) return;
      canvas.setPointerCapture(event.pointerId);
      pressed = at(event);
      this._dragging = false;
      on.hover(null, 0, 0);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!event.isPrimary) return;
      const place = at(event);
      if (!pressed) {
        on.hover(event.pointerType === "touch" ? null : this._pointAt(...place), ...place);
        return;
      }
      if (!this._dragging && Math.hypot(place[0] - pressed[0], place[1] - pressed[1]) < 4) return;
      this._dragging = true;
      drag(place);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (!pressed || !event.isPrimary) return;
      const point = this._dragging ? null : this._pointAt(...pressed);
      if (point !== null) on.pick(point);
      else drag(at(event));
      pressed = null;
    });
    canvas.addEventListener("pointercancel", () => (pressed = null));
    canvas.addEventListener("pointerleave", () => on.hover(null, 0, 0));
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      const here = this.marks.get("here");
      if (!here) return;
      if (event.key === "Enter") {
        let [best, nearest] = [Infinity, -1];
        this.places.forEach((place, index) => {
          const away = Math.hypot(place[0] - here.place[0], place[1] - here.place[1]);
          if (away < best) [best, nearest] = [away, index];
        });
        if (nearest >= 0) on.pick(nearest);
      } else if (event.key in moves) {
        const [right, up] = moves[/** @type {keyof typeof moves} */ (event.key)];
        const step = 2 * this.half * STEP * (event.shiftKey ? 4 : 1);
        on.move(here.place[0] + right * step, here.place[1] + up * step);
      } else return;
      event.preventDefault();
    });
  }
}

/** Where nearly all numbers are. @param {number[]} values */
function bounds(values) {
  const sorted = [...values].sort((a, b) => a - b);
  if (!sorted.length) return [0, 0];
  const at = (/** @type {number} */ share) => sorted[Math.round(share * (sorted.length - 1))];
  return [at(0.005), at(0.995)];
}
