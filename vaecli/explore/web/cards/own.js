/** Your picture: drawn, dropped, pasted or opened; encoded, and reconstructed from its latent. */

import { Sheet } from "../drawing.js";
import { buttonOf, canvasOf, elementOf, inputOf } from "../elements.js";
import { Newest } from "../newest.js";
import { toast } from "../notices.js";
import { centred, context, paint, pixels, toTensor } from "../pictures.js";

const SIDE = 280; // pixels of the sheet's longer side
const DARK = "#8"; // papers that sort before this one are dark

export class OwnCard {
  /** @param {import("../network.js").Network} network @param {import("../state.js").State} state */
  constructor(network, state) {
    this.contents = network.contents;
    /** What the network sees. @type {Float32Array | null} */
    this._seen = null;
    const canvas = canvasOf("sheet");
    const [channels, height, width] = this.contents.shape;
    const scale = SIDE / Math.max(width, height);
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
    /** The sheet, or a picture that was opened. @type {HTMLCanvasElement | ImageBitmap} */
    this._source = canvas;
    this._sheet = new Sheet(canvas, elementOf("pen"), () => void this._see(canvas));
    this._sheet.paper = this.contents.paper;
    this._sheet.colour = this.contents.paper < DARK ? "#ffffff" : "#202020";
    elementOf("ink-row").hidden = channels === 1;
    this._rebuilt = new Newest(async () => {
      if (!this._seen) return;
      const latent = await network.encode(this._seen, state.label);
      const values = await network.decode([latent], state.label);
      paint(canvasOf("rebuilt"), pixels(values, this.contents.shape));
      state.go(latent);
    });
  }

  open() {
    this.clear();
    const ink = inputOf("ink");
    ink.value = this._sheet.colour;
    ink.addEventListener("input", () => (this._sheet.colour = ink.value));
    buttonOf("clear").addEventListener("click", () => this.clear());
    const file = inputOf("file");
    file.addEventListener("change", () => {
      void this._open(file.files?.[0]);
      file.value = ""; // the same file may be opened again
    });
    inputOf("invert").addEventListener("change", () => this._seen && void this._see(this._source));
    document.addEventListener("paste", (event) => {
      const items = [...(event.clipboardData?.items ?? [])];
      void this._open(items.find((item) => item.type.startsWith("image/"))?.getAsFile());
    });
    this._listenToDrops();
  }

  clear() {
    this._sheet.clear();
    this._source = this._sheet.canvas;
    this._seen = null;
    const [, height, width] = this.contents.shape;
    for (const canvas of [canvasOf("seen"), canvasOf("rebuilt")]) {
      [canvas.width, canvas.height] = [width, height];
      context(canvas).clearRect(0, 0, width, height);
    }
  }

  /** @param {HTMLCanvasElement | ImageBitmap} source */
  async _see(source) {
    const { shape } = this.contents;
    this._source = source;
    const tensor = toTensor(source, shape, inputOf("invert").checked, this._sheet.paper);
    this._seen = source === this._sheet.canvas ? centred(tensor, shape) : tensor;
    paint(canvasOf("seen"), pixels(this._seen, shape));
    await this._rebuilt.run();
  }

  /** @param {Blob | null | undefined} file */
  async _open(file) {
    if (!file) return;
    try {
      const picture = await createImageBitmap(file);
      this._sheet.show(picture);
      await this._see(picture);
    } catch {
      toast("This browser cannot read that as a picture.");
    }
  }

  _listenToDrops() {
    const card = elementOf("own-card");
    const isFile = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      card.classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => event.relatedTarget || card.classList.remove("dropping"));
    document.addEventListener("drop", (event) => {
      if (!isFile(event)) return;
      event.preventDefault();
      card.classList.remove("dropping");
      void this._open(event.dataTransfer?.files[0]);
    });
  }
}
