/** Samples: pictures drawn from the model's prior, the same for the same seed as `vae sample` draws. */

import { sampleCommand, seedFrom } from "../address.js";
import { buttonOf, elementOf, inputOf, newButton, offerClasses, pictureCanvas, selectOf } from "../elements.js";
import { drawSeed } from "../noise.js";
import { fail, toast } from "../notices.js";
import { paint, pixels } from "../pictures.js";

const PICTURES = 24;
const COLUMNS = 6;

export class SamplesCard {
  /**
   * @param {import("../network.js").Network} network
   * @param {import("../state.js").State} state
   * @param {import("./here.js").HereCard} here
   * @param {() => void} changed  After another choice of what is drawn.
   * @param {(text: string) => void} copy
   */
  constructor(network, state, here, changed, copy) {
    this.network = network;
    this.contents = network.contents;
    this.state = state;
    this.here = here;
    this.changed = changed;
    this.copy = copy;
    this.seed = 1n;
    this.temperature = this.contents.temperature;
    /** The class that is drawn; null: any. @type {number | null} */
    this.label = state.label;
    /** @type {Float32Array[]} */
    this._latents = [];
    /** @type {HTMLCanvasElement[]} */
    this._canvases = [];
    this._number = 0;
  }

  open() {
    const [field, range, labels] = [inputOf("seed"), inputOf("temperature"), selectOf("sample-label")];
    this._canvases = Array.from({ length: PICTURES }, (_, index) => this._place(index));
    elementOf("sample-label-row").hidden = !this.contents.classes.length;
    if (!this.contents.conditional) labels.append(new Option("any", ""));
    offerClasses(labels, this.contents.classes);
    field.addEventListener("change", () => {
      const seed = seedFrom(field.value.trim());
      if (seed === undefined) toast("A seed is a whole number below 2⁶⁴.");
      this.seed = seed ?? this.seed;
      this._redraw();
    });
    buttonOf("new-seed").addEventListener("click", () => {
      this.seed = drawSeed();
      this._redraw();
    });
    range.addEventListener("input", () => {
      this.temperature = Number(range.value);
      this._redraw();
    });
    labels.addEventListener("change", () => {
      this.label = labels.value === "" ? null : Number(labels.value);
      this._redraw();
    });
    buttonOf("copy-samples").addEventListener("click", () => {
      this.copy(sampleCommand(this, PICTURES, COLUMNS, this.contents));
    });
  }

  /** The class that decoder and encoder are given, of a conditional model. */
  get given() {
    return this.contents.conditional ? this.label : null;
  }

  /** The latents of samples number `first` to `first + count`. @param {number} first @param {number} count */
  draw(first, count) {
    return this.network.draw(this.seed, first, count, this.temperature, this.label);
  }

  /** Draw the samples. A newer call ends an older one. */
  async show() {
    inputOf("seed").value = String(this.seed);
    inputOf("temperature").value = String(this.temperature);
    elementOf("temperature-text").textContent = this.temperature.toFixed(2);
    selectOf("sample-label").value = this.label === null ? "" : String(this.label);
    const number = ++this._number;
    for (let first = 0; first < PICTURES; ) {
      const latents = await this.draw(first, Math.min(this.network.batch, PICTURES - first));
      if (number !== this._number) return;
      const values = await this.network.decode(latents, this.given);
      if (number !== this._number) return;
      latents.forEach((latent, index) => {
        this._latents[first + index] = latent;
        paint(this._canvases[first + index], pixels(values, this.contents.shape, index));
      });
      first += latents.length;
      await this.here.pause();
    }
  }

  _redraw() {
    this.show().catch(fail);
    this.changed();
  }

  /** @param {number} index */
  _place(index) {
    const canvas = pictureCanvas(this.contents.shape);
    const button = newButton(() => {
      if (this._latents[index]) this.state.go(this._latents[index], this.given);
    }, canvas);
    button.setAttribute("aria-label", `Go to sample ${index + 1}`);
    elementOf("samples").append(button);
    return canvas;
  }
}
