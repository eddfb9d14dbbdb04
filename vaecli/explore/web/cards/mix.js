/** Between and beyond: three kept places, the way from A to B, and A − B + C. */

import { buttonOf, elementOf, inputOf, pictureCanvas, selectOf } from "../elements.js";
import { Newest } from "../newest.js";
import { toast } from "../notices.js";
import { paint, pixels } from "../pictures.js";
import { lengthsOf, mixed, slerp, spaced } from "../prior.js";

/** @typedef {import("../prior.js").Latent} Latent */
/** @typedef {{ latent: Float32Array, label: number | null }} Place */

const STRIP = 9; // pictures from A to B
const FINE = 65; // places from A to B, STRIP of them among them
const TURN = 500; // milliseconds at both ends
const PACE = 33; // milliseconds at each place

export class MixCard {
  /**
   * @param {import("../network.js").Network} network
   * @param {import("../state.js").State} state
   * @param {import("./plane.js").PlaneCard} plane
   */
  constructor(network, state, plane) {
    this.network = network;
    this.state = state;
    this.plane = plane;
    /** @type {Map<string, Place>} */
    this._kept = new Map();
    /** From A to B. @type {Latent[]} */
    this._way = [];
    /** A − B + C. @type {Float32Array | null} */
    this._sum = null;
    /** @type {Map<string, HTMLCanvasElement>} */
    this._canvases = new Map();
    /** @type {HTMLCanvasElement[]} */
    this._strip = [];
    this._pictures = new Newest(() => this._draw());
  }

  open() {
    const { network, state } = this;
    const { contents } = network;
    this._canvases = new Map(
      ["slot-a", "slot-b", "slot-c", "sum"].map((id) => {
        const canvas = pictureCanvas(contents.shape);
        buttonOf(id).append(canvas);
        return [id, canvas];
      }),
    );
    this._strip = Array.from({ length: STRIP }, () => pictureCanvas(contents.shape));
    elementOf("strip").append(...this._strip);
    for (const name of ["A", "B", "C"]) {
      buttonOf(`keep-${name.toLowerCase()}`).addEventListener("click", () => {
        this._kept.set(name, { latent: state.latent, label: state.label });
        toast(`kept as ${name}`);
        this._update();
      });
      buttonOf(`slot-${name.toLowerCase()}`).addEventListener("click", () => {
        const place = this._kept.get(name);
        if (place) state.go(place.latent, place.label);
      });
    }
    buttonOf("sum").addEventListener("click", () => this._sum && state.go(this._sum, this._label));
    const method = selectOf("method");
    if (contents.components) method.append(new Option("through the prior", "string"));
    method.append(new Option("arc (slerp)", "slerp"), new Option("straight (lerp)", "lerp"));
    method.value = contents.components >= contents.latentDim ? "string" : "slerp";
    method.addEventListener("change", () => this._update());
    const range = inputOf("between");
    range.max = String(FINE - 1);
    range.addEventListener("input", () => this._way.length && state.go(this._way[Number(range.value)], this._label));
    this._listenToPlay();
    this._update();
  }

  /** The class that everything here is drawn for: that of A. */
  get _label() {
    return this._kept.get("A")?.label ?? this.state.label;
  }

  _update() {
    const [a, b, c] = ["A", "B", "C"].map((name) => this._kept.get(name)?.latent);
    this._way = [];
    this._sum = a && b && c ? a.map((value, row) => value - b[row] + c[row]) : null;
    inputOf("between").disabled = buttonOf("play").disabled = !(a && b);
    for (const name of ["A", "B", "C"]) buttonOf(`slot-${name.toLowerCase()}`).disabled = !this._kept.has(name);
    buttonOf("sum").disabled = !this._sum;
    this._mark();
    void this._pictures.run();
  }

  _mark() {
    this.plane.showKept(new Map([...this._kept].map(([name, { latent }]) => [name, latent])), this._way);
  }

  async _draw() {
    const [a, b, sum] = [this._kept.get("A"), this._kept.get("B"), this._sum];
    for (const [name, { latent, label }] of this._kept) {
      await this._paint(this._canvases.get(`slot-${name.toLowerCase()}`), latent, label);
    }
    if (sum) await this._paint(this._canvases.get("sum"), sum, this._label);
    if (!a || !b) return;
    const way = await this._wayBetween(a.latent, b.latent);
    for (const [index, canvas] of this._strip.entries()) {
      await this._paint(canvas, way[(index * (FINE - 1)) / (STRIP - 1)], this._label);
    }
    if (a !== this._kept.get("A") || b !== this._kept.get("B")) return; // this runs again
    this._way = way;
    this._mark();
  }

  /** @param {HTMLCanvasElement | undefined} canvas @param {Latent} latent @param {number | null} label */
  async _paint(canvas, latent, label) {
    const values = await this.network.decode([latent], label);
    if (canvas) paint(canvas, pixels(values, this.network.contents.shape));
  }

  /** FINE latents from `a` to `b`, as `vae interpolate` has them. @param {Float32Array} a @param {Float32Array} b */
  async _wayBetween(a, b) {
    const { value: method } = selectOf("method");
    if (method === "string") {
      const line = spaced(this.network.priorOf(this._label).string(a, b), FINE);
      return spaced(line, FINE, lengthsOf(await this._decoded(line)));
    }
    const between = method === "lerp" ? mixed : slerp;
    return Array.from({ length: FINE }, (_, step) => between(a, b, step / (FINE - 1)));
  }

  /** The picture of each latent. @param {Latent[]} latents */
  async _decoded(latents) {
    const found = [];
    while (found.length < latents.length) {
      const part = latents.slice(found.length, found.length + this.network.batch);
      const values = await this.network.decode(part, this._label);
      const size = values.length / part.length;
      for (let at = 0; at < values.length; at += size) found.push(values.subarray(at, at + size));
    }
    return found;
  }

  _listenToPlay() {
    const [button, range] = [buttonOf("play"), inputOf("between")];
    let playing = false;
    button.addEventListener("click", async () => {
      playing = !playing;
      button.textContent = playing ? "Stop" : "Play";
      let step = Number(range.value) >= FINE - 1 ? -1 : 1;
      while (playing) {
        const next = Number(range.value) + step;
        if (next < 0 || next >= FINE) step = -step;
        else {
          range.value = String(next);
          range.dispatchEvent(new Event("input"));
        }
        await new Promise((resolve) => setTimeout(resolve, next <= 0 || next >= FINE - 1 ? TURN : PACE));
      }
    });
  }
}
