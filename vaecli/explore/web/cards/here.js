/** You are here: the picture at this place, the encoded pictures nearest to it, and ways to go elsewhere. */

import { buttonOf, canvasOf, element, elementOf, newButton, offerClasses, selectOf } from "../elements.js";
import { Newest } from "../newest.js";
import { drawSeed } from "../noise.js";
import { fail } from "../notices.js";
import { paint, pixels, save } from "../pictures.js";

const NEIGHBOURS = 5;

export class HereCard {
  /**
   * @param {import("../network.js").Network} network
   * @param {import("../state.js").State} state
   * @param {import("../points.js").Points} points
   */
  constructor(network, state, points) {
    this.network = network;
    this.state = state;
    this.points = points;
    const { shape } = network.contents;
    /** The picture: one decode at a time, and always of the newest place. */
    this.picture = new Newest(async () => {
      const values = await network.decode([state.latent], state.label);
      paint(canvasOf("picture"), pixels(values, shape));
    });
  }

  /** Make what can be done here. */
  open() {
    const { network, state } = this;
    const { contents } = network;
    const labels = selectOf("label");
    elementOf("label-row").hidden = !contents.conditional;
    offerClasses(labels, contents.classes);
    labels.addEventListener("change", () => state.go(state.latent, Number(labels.value)));
    buttonOf("random").addEventListener("click", () => this._goAnywhere().catch(fail));
    buttonOf("reset").addEventListener("click", () => state.go(contents.mean));
    buttonOf("save").addEventListener("click", () => save(canvasOf("picture"), "picture.png"));
    const showNeighbours = this._neighbours();
    state.subscribe(() => {
      if (state.label !== null) labels.value = String(state.label);
      showNeighbours();
      void this.picture.run();
    });
  }

  /** Go to an encoded picture. @param {number} index */
  goToPoint(index) {
    this.state.go(this.points.latents[index], this.points.labelOf(index) ?? this.state.label);
  }

  async _goAnywhere() {
    const [latent] = await this.network.draw(drawSeed(), 0, 1, 1, this.state.label);
    this.state.go(latent);
  }

  /** Let what the visitor does come first. */
  async pause() {
    do await new Promise((resolve) => setTimeout(resolve, 0));
    while (this.picture.busy);
  }

  _neighbours() {
    const { points, state } = this;
    const box = elementOf("neighbours");
    elementOf("neighbours-title").hidden = box.hidden = !points.count;
    const cells = Array.from({ length: Math.min(NEIGHBOURS, points.count) }, () => {
      const [figure, canvas, caption] = [element("figure"), element("canvas"), element("figcaption")];
      const cell = { canvas, caption, index: 0, button: newButton(() => this.goToPoint(cell.index), canvas) };
      figure.append(cell.button, caption);
      box.append(figure);
      return cell;
    });
    return () => {
      const nearest = points.nearest(state.latent, cells.length);
      cells.forEach((cell, rank) => {
        cell.index = nearest[rank];
        points.paint(cell.canvas, cell.index);
        cell.caption.textContent = points.nameOf(cell.index);
        cell.button.setAttribute("aria-label", `Go to encoded picture ${cell.index} ${points.nameOf(cell.index)}`);
      });
      const names = nearest.map((index) => points.nameOf(index)).filter(Boolean);
      const known = names.length ? `; encoded pictures near it: ${names.join(", ")}` : "";
      canvasOf("picture").setAttribute("aria-label", `The picture at this place${known}`);
    };
  }
}
