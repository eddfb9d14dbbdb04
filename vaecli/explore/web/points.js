/** Held-out pictures, encoded: their latents, their classes, and how they look. */

import { embeddedBytes } from "./embedded.js";
import { context } from "./pictures.js";
import { distance } from "./prior.js";

const PLAIN = "#4e79d7"; // where classes are not known
const PALETTE = [
  PLAIN, "#f28e2b", "#e15759", "#55b7b0", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#8a93a3",
]; // prettier-ignore

export class Points {
  /** @param {import("./embedded.js").Contents} contents */
  constructor(contents) {
    const { points } = contents;
    this.count = points.count;
    this.labels = points.labels;
    this.classes = points.classes;
    /** @type {Float32Array[]} */
    this.latents = [];
    /** Their pictures, in one. @type {ImageBitmap | null} */
    this._sheet = null;
    this._columns = points.columns;
    this._side = points.side;
    this._size = contents.latentDim;
    this._modelClasses = contents.conditional ? contents.classes : [];
  }

  /** Read what is in the page. */
  async open() {
    const all = new Float32Array((await embeddedBytes("latents")).buffer);
    this.latents = Array.from({ length: this.count }, (_, index) =>
      all.subarray(index * this._size, (index + 1) * this._size),
    );
    const sheet = await embeddedBytes("sheet");
    if (sheet.length) this._sheet = await createImageBitmap(new Blob([sheet], { type: "image/webp" }));
  }

  get hasPictures() {
    return this._sheet !== null;
  }

  /** The name of a point's class, or nothing. @param {number} index */
  nameOf(index) {
    return this.labels.length ? this.classes[this.labels[index]] : "";
  }

  /** The class that a conditional model knows a point by, or null. @param {number} index */
  labelOf(index) {
    const label = this._modelClasses.indexOf(this.nameOf(index));
    return label < 0 ? null : label;
  }

  /** @param {number} index */
  colourOf(index) {
    if (!this.labels.length) return PLAIN;
    const label = this.labels[index];
    const many = this.classes.length;
    return many <= PALETTE.length ? PALETTE[label] : `hsl(${(360 * label) / many} 65% ${label % 2 ? 45 : 62}%)`;
  }

  /** Draw the picture of a point. @param {HTMLCanvasElement} canvas @param {number} index */
  paint(canvas, index) {
    const [width, height] = this._side;
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    if (!this._sheet) return;
    const [left, top] = [(index % this._columns) * width, Math.floor(index / this._columns) * height];
    context(canvas).drawImage(this._sheet, left, top, width, height, 0, 0, width, height);
  }

  /** The points nearest to a latent, the nearest first. @param {import("./prior.js").Latent} latent @param {number} many */
  nearest(latent, many) {
    const away = this.latents.map((point, index) => ({ index, away: distance(point, latent) }));
    away.sort((a, b) => a.away - b.away);
    return away.slice(0, many).map(({ index }) => index);
  }
}
