/** The plane: encoded pictures as points, what the model draws behind them, and where the visitor is. */

import { Backdrop } from "../backdrop.js";
import { canvasOf, element, elementOf, inputOf, newButton, selectOf } from "../elements.js";
import { fail } from "../notices.js";
import { moved, placeOf, REACH } from "../prior.js";
import { Scatter } from "../scatter.js";

/** @typedef {import("../prior.js").Latent} Latent */

const LEAST = 0.1; // half of a side, where there are points

export class PlaneCard {
  /**
   * @param {import("../network.js").Network} network
   * @param {import("../state.js").State} state
   * @param {import("../points.js").Points} points
   * @param {import("./here.js").HereCard} here
   * @param {() => void} changed  After another choice of axes.
   */
  constructor(network, state, points, here, changed) {
    this.network = network;
    this.contents = network.contents;
    this.state = state;
    this.points = points;
    this.changed = changed;
    /** Two dimensions; null: principal components. @type {[number, number] | null} */
    this.dims = null;
    /** Kept places, by their letter. @type {Map<string, Latent>} */
    this._kept = new Map();
    /** @type {Latent[]} */
    this._way = [];
    this._backdrop = new Backdrop(network, () => here.pause());
    this._scatter = new Scatter(canvasOf("plane"), {
      move: (x, y) => state.go(inputOf("keep").checked ? this._moved(x, y) : this._likely(x, y)),
      pick: (index) => here.goToPoint(index),
      hover: (index, left, top) => this._tip(index, left, top),
    });
    this._showAxes = () => {};
  }

  open() {
    this._showAxes = this._offerAxes();
    this._legend();
    inputOf("backdrop").addEventListener("change", () => this._drawBackdrop());
    let { label } = this.state;
    this.state.subscribe(() => {
      this._mark();
      if (label === this.state.label) return;
      ({ label } = this.state);
      this._drawBackdrop();
    });
  }

  /** Show the plane of `dims`, or of the principal components. */
  show() {
    this._showAxes();
    const { contents, points } = this;
    const places = points.latents.map((latent) => this._placeOf(latent));
    const least = places.length ? LEAST : REACH * Math.max(...contents.std);
    this._scatter.setPoints(places, places.map((_, index) => points.colourOf(index)), least);
    this._mark();
    elementOf("plane-hint").textContent = this._hint();
    this._drawBackdrop();
  }

  /** What the plane shows, and what to do with it. */
  _hint() {
    const { contents, points, dims } = this;
    const share = Math.round(100 * contents.spread);
    const differing = points.count ? "the points" : "draws of the prior";
    let axes = `The two directions in which ${differing} differ most: ${share} % of their variance.`;
    if (dims) axes = `Dimension ${dims[0]} grows to the right, dimension ${dims[1]} upwards.`;
    else if (contents.latentDim < 2) axes = "The one latent dimension grows to the right.";
    if (!points.count) return `${axes} Drag anywhere.`;
    return `${points.count} ${contents.source}, encoded. ${axes} Drag anywhere; choose a point to go to it.`;
  }

  /** Mark kept places, and the way from one to another. @param {Map<string, Latent>} kept @param {Latent[]} way */
  showKept(kept, way) {
    this._kept = kept;
    this._way = way;
    this._mark();
  }

  get _axes() {
    const unit = (/** @type {number} */ chosen) => this.contents.mean.map((_, dimension) => Number(dimension === chosen));
    return this.dims ? this.dims.map(unit) : this.contents.axes;
  }

  /** @param {Latent} latent */
  _placeOf(latent) {
    return placeOf(latent, this._axes, this.contents.centre);
  }

  /** @param {number} x @param {number} y */
  _moved(x, y) {
    return moved(this.state.latent, this._axes, this.contents.centre, x, y);
  }

  /** @param {number} x @param {number} y */
  _likely(x, y) {
    return this.network.priorOf(this.state.label).likely(this._axes, this.contents.centre, x, y);
  }

  _mark() {
    this._scatter.mark("here", this._placeOf(this.state.latent));
    for (const [name, latent] of this._kept) this._scatter.mark(name, this._placeOf(latent), name);
    this._scatter.line = this._way.map((latent) => this._placeOf(latent));
    this._scatter.draw();
  }

  _drawBackdrop() {
    const scatter = this._scatter;
    scatter.backdrop = null;
    scatter.draw();
    this._backdrop.stop();
    if (!inputOf("backdrop").checked) return;
    const latentAt = (/** @type {[number, number, number]} */ ...cell) => this._likely(...scatter.cell(...cell));
    const grown = (/** @type {HTMLCanvasElement} */ picture) => {
      scatter.backdrop = picture;
      scatter.draw();
    };
    this._backdrop.draw(latentAt, this.state.label, grown).catch(fail);
  }

  /** Show the picture of a point beside the pointer. @param {number | null} index @param {number} left @param {number} top */
  _tip(index, left, top) {
    const tip = elementOf("tip");
    tip.hidden = index === null || !this.points.hasPictures;
    if (index === null || tip.hidden) return;
    this.points.paint(canvasOf("tip-picture"), index);
    const caption = elementOf("tip-text");
    caption.textContent = this.points.nameOf(index);
    caption.hidden = !this.points.labels.length;
    const side = canvasOf("plane").clientWidth;
    tip.style.left = `${Math.max(0, left > side / 2 ? left - tip.offsetWidth - 14 : left + 14)}px`;
    tip.style.top = `${Math.max(0, top > side / 2 ? top - tip.offsetHeight - 14 : top + 14)}px`;
  }

  /** Choices of the two axes. @returns {() => void}  Shows which are chosen. */
  _offerAxes() {
    const { order } = this.contents;
    const [across, up] = [selectOf("across"), selectOf("up")];
    across.append(new Option("principal components", ""));
    for (const select of [across, up]) {
      for (const dimension of order) select.append(new Option(`dimension ${dimension}`, String(dimension)));
    }
    across.disabled = order.length < 2;
    const choose = () => {
      const [first, second] = [Number(across.value), Number(up.value)];
      if (across.value === "") this.dims = null;
      else if (!this.dims) this.dims = [first, order.find((one) => one !== first) ?? 0];
      else if (first === second) this.dims.reverse(); // one was chosen that the other axis has
      else this.dims = [first, second];
      this.show();
      this.changed();
    };
    across.addEventListener("change", choose);
    up.addEventListener("change", choose);
    return () => {
      across.value = this.dims ? String(this.dims[0]) : "";
      if (this.dims) up.value = String(this.dims[1]);
      elementOf("up-label").hidden = !this.dims;
    };
  }

  /** A button for each class: it alone, or all again. */
  _legend() {
    const { points } = this;
    const legend = elementOf("legend");
    /** @type {number | null} */
    let chosen = null;
    points.classes.forEach((name, label) => {
      const first = points.labels.indexOf(label);
      if (first < 0) return;
      const dot = element("i");
      dot.style.background = points.colourOf(first);
      const button = newButton(() => {
        chosen = chosen === label ? null : label;
        this._scatter.chosen = chosen === null ? null : (index) => points.labels[index] === chosen;
        for (const other of legend.children) other.setAttribute("aria-pressed", String(other === button && chosen === label));
        this._scatter.draw();
      }, dot, name);
      button.title = name;
      button.setAttribute("aria-pressed", "false");
      legend.append(button);
    });
  }
}
