/** A slider for each latent dimension, those that carry most first. */

import { buttonOf, element, elementOf } from "../elements.js";
import { REACH } from "../prior.js";

const AT_FIRST = 16; // sliders, until all are asked for

export class SlidersCard {
  /** @param {import("../embedded.js").Contents} contents @param {import("../state.js").State} state */
  constructor(contents, state) {
    this.contents = contents;
    this.state = state;
  }

  open() {
    const { contents, state } = this;
    const largest = Math.max(...contents.importance);
    const rows = contents.order.map((dimension) => this._row(dimension, largest));
    const hide = (/** @type {number} */ from) => rows.forEach(({ row }, rank) => (row.hidden = rank >= from));
    hide(AT_FIRST);
    const more = buttonOf("more");
    more.hidden = rows.length <= AT_FIRST;
    more.textContent = `Show all ${rows.length}`;
    more.addEventListener("click", () => {
      hide(rows.length);
      more.hidden = true;
    });
    elementOf("sliders-hint").textContent =
      `The bar under each is its ${contents.orderedBy}; the longest is ${largest.toPrecision(3)}.`;
    state.subscribe(() => {
      for (const { dimension, range, output } of rows) {
        const value = state.latent[dimension];
        if (document.activeElement !== range || Number(range.value) !== value) range.value = String(value);
        output.textContent = value.toFixed(2).replace("-", "−");
      }
    });
  }

  /** @param {number} dimension @param {number} largest */
  _row(dimension, largest) {
    const { contents, state } = this;
    const importance = contents.importance[dimension];
    const [row, number, track, bar, range, output] = [
      element("div"), element("span", String(dimension)), element("div"), element("div"), element("input"), element("output"),
    ]; // prettier-ignore
    row.className = "slider";
    row.title = `dimension ${dimension}: ${importance.toPrecision(3)}`;
    number.className = "number";
    track.className = "track";
    bar.className = "bar";
    bar.style.width = `${(100 * importance) / Math.max(largest, 1e-12)}%`;
    range.type = "range";
    range.min = String(contents.mean[dimension] - REACH * contents.std[dimension]);
    range.max = String(contents.mean[dimension] + REACH * contents.std[dimension]);
    range.step = "any";
    range.setAttribute("aria-label", `Dimension ${dimension}, ${importance.toPrecision(3)}`);
    range.setAttribute("aria-describedby", "sliders-hint");
    range.addEventListener("input", () => {
      const latent = Float32Array.from(state.latent);
      latent[dimension] = Number(range.value);
      state.go(latent);
    });
    track.append(bar, range);
    row.append(number, track, output);
    elementOf("sliders").append(row);
    return { dimension, row, range, output };
  }
}
