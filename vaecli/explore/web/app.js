/** The page: puts the widgets together, and computes the picture wherever the visitor goes. */

import { copy, decodeCommand, fromHash, numberText, sampleCommand, toHash } from "./address.js";
import { Sheet } from "./drawing.js";
import { embeddedBytes, embeddedJson } from "./embedded.js";
import { Network } from "./network.js";
import { drawSeed } from "./noise.js";
import { centred, context, newCanvas, paint, pixels, save, toTensor } from "./pictures.js";
import { Plane } from "./plane.js";
import { distance, mixed, moved, placeOf, slerp, spaced } from "./prior.js";
import { State } from "./state.js";

const PICTURES = 24; // samples
const COLUMNS = 6;
const STRIP = 9; // pictures between A and B
const FINE = 65; // places between A and B
const SLIDERS = 16;
const REACH = 3; // standard deviations of the prior, to both sides
const CELLS = 14; // on a side of the backdrop
const NEIGHBOURS = 5;
const PALETTE = [
  "#4e79d7", "#f28e2b", "#e15759", "#55b7b0", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#8a93a3",
]; // prettier-ignore

/** @template {HTMLElement} T @param {string} id @param {new () => T} kind @returns {T} */
function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`no ${id} in the page`);
  return found;
}
const canvasOf = (/** @type {string} */ id) => byId(id, HTMLCanvasElement);
const inputOf = (/** @type {string} */ id) => byId(id, HTMLInputElement);
const selectOf = (/** @type {string} */ id) => byId(id, HTMLSelectElement);
const buttonOf = (/** @type {string} */ id) => byId(id, HTMLButtonElement);
const elementOf = (/** @type {string} */ id) => byId(id, HTMLElement);

/** A new element with text in it. @template {keyof HTMLElementTagNameMap} K @param {K} name @param {string} [text] */
function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

const contents = embeddedJson("contents");
const network = new Network(contents);
const size = contents.latentDim;
const { points } = contents;
const mean = Float64Array.from(contents.mean);

/** The latents of the points. @type {Float32Array[]} */
let encoded = [];
/** The pictures of the points, in one. @type {ImageBitmap | null} */
let sheetOfPoints = null;
/** The plane of principal components, or of two dimensions. @type {[number, number] | null} */
let dims = null;
let axes = contents.axes;
let seed = 1n;
/** The class that samples are drawn from; null: any. @type {number | null} */
let sampleLabel = null;
let temperature = contents.temperature;
const state = new State(mean, contents.conditional ? 0 : null);

// Where we are: one decode at a time, and always of the newest place.

/** Work of which one run is enough for all that was asked for while another one ran. */
class Newest {
  /** @param {() => Promise<void>} work */
  constructor(work) {
    this._work = work;
    this._asked = false;
    this.busy = false;
  }

  async run() {
    this._asked = true;
    if (this.busy) return;
    this.busy = true;
    try {
      while (this._asked) {
        this._asked = false;
        await this._work();
        await nextFrame();
      }
    } catch (error) {
      fail(error);
    } finally {
      this.busy = false;
    }
  }
}

const currentPicture = new Newest(async () => {
  const values = await network.decode([state.latent], state.label);
  paint(canvasOf("picture"), pixels(values, contents.shape));
});

function nextFrame() {
  return new Promise((resolve) => {
    requestAnimationFrame(resolve);
    setTimeout(resolve, 50); // a page that is not seen has no frames
  });
}

/** @param {unknown} error */
function fail(error) {
  const status = elementOf("status");
  status.hidden = false;
  status.textContent = `This page cannot go on: ${error instanceof Error ? error.message : String(error)}`;
  document.documentElement.dataset.state = "failed";
}

/** @param {string} text */
function toast(text) {
  const box = elementOf("toast");
  box.textContent = text;
  box.classList.add("shown");
  setTimeout(() => box.classList.remove("shown"), 1800);
}

// The plane.

const plane = new Plane(canvasOf("plane"), {
  move(x, y) {
    const keep = inputOf("keep").checked;
    const latent = keep ? moved(state.latent, axes, contents.centre, x, y) : likely(x, y);
    state.go(latent);
  },
  pick: goToPoint,
  hover: showTip,
});

/** @param {number} x @param {number} y */
function likely(x, y) {
  return priorHere().likely(axes, contents.centre, x, y);
}

/** @type {Map<number | null, import("./prior.js").Mixture>} */
const priors = new Map();

/** The prior of a class, kept. @param {number | null} label */
function priorOf(label) {
  const known = priors.get(label) ?? network.priorOf(label);
  priors.set(label, known);
  return known;
}

function priorHere() {
  return priorOf(contents.conditional ? state.label : null);
}

/** @param {number} index */
function goToPoint(index) {
  const label = contents.conditional ? contents.classes.indexOf(points.classes[points.labels[index]]) : -1;
  state.go(encoded[index], label >= 0 ? label : state.label);
  if (contents.conditional) selectOf("label").value = String(state.label);
}

/** @param {number} index */
function nameOf(index) {
  return points.labels.length ? points.classes[points.labels[index]] : "";
}

/** @param {number} index */
function colourOf(index) {
  if (!points.labels.length) return "#4e79d7";
  const label = points.labels[index];
  const many = points.classes.length;
  return many <= PALETTE.length ? PALETTE[label] : `hsl(${(360 * label) / many} 65% ${label % 2 ? 45 : 62}%)`;
}

/** Draw the picture of a point. @param {HTMLCanvasElement} canvas @param {number} index */
function paintPoint(canvas, index) {
  const [width, height] = points.side;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  if (!sheetOfPoints) return;
  const [left, top] = [(index % points.columns) * width, Math.floor(index / points.columns) * height];
  context(canvas).drawImage(sheetOfPoints, left, top, width, height, 0, 0, width, height);
}

/** @param {number | null} index @param {number} left @param {number} top */
function showTip(index, left, top) {
  const tip = elementOf("tip");
  tip.hidden = index === null || !sheetOfPoints;
  if (index === null || tip.hidden) return;
  paintPoint(canvasOf("tip-picture"), index);
  const caption = elementOf("tip-text");
  caption.textContent = nameOf(index);
  caption.hidden = !points.labels.length;
  const side = canvasOf("plane").clientWidth;
  tip.style.left = `${Math.max(0, left > side / 2 ? left - tip.offsetWidth - 14 : left + 14)}px`;
  tip.style.top = `${Math.max(0, top > side / 2 ? top - tip.offsetHeight - 14 : top + 14)}px`;
}

function showPlane() {
  axes = dims ? dims.map((dimension) => unit(dimension)) : contents.axes;
  const places = encoded.map((latent) => placeOf(latent, axes, contents.centre));
  const least = places.length ? 0.1 : REACH * Math.max(...contents.std);
  plane.setPoints(places, encoded.map((_, index) => colourOf(index)), least);
  placeMarks();
  const share = Math.round(100 * contents.spread);
  const what = dims
    ? `Dimension ${dims[0]} grows to the right, dimension ${dims[1]} upwards.`
    : `The two directions in which the points differ most: ${share} % of their variance.`;
  const shown = points.count ? `${points.count} ${contents.source}, encoded. ` : "";
  elementOf("plane-hint").textContent = `${shown}${what} Drag anywhere; choose a point to go to it.`;
  void drawBackdrop();
}

/** @param {number} dimension */
function unit(dimension) {
  return Array.from({ length: size }, (_, index) => (index === dimension ? 1 : 0));
}

function placeMarks() {
  plane.mark("here", placeOf(state.latent, axes, contents.centre));
  for (const [name, slot] of slots) if (slot.latent) plane.mark(name, placeOf(slot.latent, axes, contents.centre), name);
  plane.line = way.map((latent) => placeOf(latent, axes, contents.centre));
}

let backdropNumber = 0;

/** Decode a grid over the plane, a few pictures at a time, so that nothing waits for it. */
async function drawBackdrop() {
  const number = ++backdropNumber;
  plane.backdrop = null;
  plane.draw();
  if (!inputOf("backdrop").checked) return;
  const [, height, width] = contents.shape;
  const scale = Math.min(1, 64 / Math.max(width, height));
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  const grid = newCanvas(CELLS * wide, CELLS * high);
  const small = newCanvas(width, height);
  for (let row = 0; row < CELLS; row++) {
    for (let first = 0; first < CELLS; ) {
      const many = chunk();
      const columns = Array.from({ length: Math.min(many, CELLS - first) }, (_, index) => first + index);
      const latents = columns.map((column) => likely(...plane.cell(column, row, CELLS)));
      const values = await network.decode(latents, state.label);
      await pause();
      if (number !== backdropNumber) return;
      columns.forEach((column, index) => {
        paint(small, pixels(values, contents.shape, index));
        context(grid).drawImage(small, column * wide, row * high, wide, high);
      });
      first += many;
    }
    plane.backdrop = grid;
    plane.draw();
  }
}

/** How many pictures take about a frame. */
function chunk() {
  const last = network.timings.at(-1) ?? 10;
  return Math.max(1, Math.min(CELLS, Math.floor(12 / last)));
}

/** Let what the visitor does come first. */
async function pause() {
  do await new Promise((resolve) => setTimeout(resolve, 0));
  while (currentPicture.busy);
}

function fillAxes() {
  const [across, up] = [selectOf("across"), selectOf("up")];
  for (const select of [across, up]) {
    const first = select === across ? "principal components" : "…";
    select.append(new Option(first, ""));
    for (const dimension of contents.order) select.append(new Option(`dimension ${dimension}`, String(dimension)));
  }
  const show = () => {
    across.value = dims ? String(dims[0]) : "";
    up.value = dims ? String(dims[1]) : "";
    elementOf("up-label").hidden = !dims;
  };
  across.addEventListener("change", () => {
    const other = dims?.[1] ?? contents.order[0];
    const chosen = Number(across.value);
    const free = other !== chosen ? other : /** @type {number} */ (contents.order.find((one) => one !== chosen));
    dims = across.value === "" ? null : [chosen, free];
    show();
    changedView();
    showPlane();
  });
  up.addEventListener("change", () => {
    if (dims && up.value !== "" && Number(up.value) !== dims[0]) dims = [dims[0], Number(up.value)];
    else if (up.value === "") dims = null;
    show();
    changedView();
    showPlane();
  });
  show();
  if (size < 2) across.disabled = true;
  return show;
}

/** @type {number | null} */
let highlighted = null;

function fillLegend() {
  const legend = elementOf("legend");
  const present = points.classes.map((_, label) => points.labels.includes(label));
  points.classes.forEach((name, label) => {
    if (!present[label]) return;
    const button = element("button");
    button.type = "button";
    button.title = name;
    const dot = element("i");
    dot.style.background = colourOf(points.labels.indexOf(label));
    button.append(dot, name);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      highlighted = highlighted === label ? null : label;
      plane.chosen = highlighted === null ? null : (index) => points.labels[index] === highlighted;
      for (const other of legend.children) other.setAttribute("aria-pressed", "false");
      if (highlighted !== null) button.setAttribute("aria-pressed", "true");
      plane.draw();
    });
    legend.append(button);
  });
}

// The nearest encoded pictures.

function fillNeighbours() {
  const box = elementOf("neighbours");
  elementOf("neighbours-title").hidden = box.hidden = !points.count;
  const cells = Array.from({ length: Math.min(NEIGHBOURS, points.count) }, () => {
    const [figure, button, canvas, caption] = [element("figure"), element("button"), element("canvas"), element("figcaption")];
    button.type = "button";
    button.append(canvas);
    figure.append(button, caption);
    box.append(figure);
    const cell = { button, canvas, caption, index: 0 };
    button.addEventListener("click", () => goToPoint(cell.index));
    return cell;
  });
  return () => {
    const away = encoded.map((latent, index) => ({ index, away: distance(latent, state.latent) }));
    away.sort((a, b) => a.away - b.away);
    cells.forEach((cell, rank) => {
      cell.index = away[rank].index;
      paintPoint(cell.canvas, cell.index);
      cell.caption.textContent = nameOf(cell.index);
      cell.button.setAttribute("aria-label", `Go to encoded picture ${cell.index} ${nameOf(cell.index)}`);
    });
  };
}

// Sliders.

function fillSliders() {
  const box = elementOf("sliders");
  const largest = Math.max(...contents.importance, 1e-12);
  const rows = contents.order.map((dimension, rank) => {
    const [row, number, track, bar, range, output] = [
      element("div"), element("span", String(dimension)), element("div"), element("div"), element("input"), element("output"),
    ]; // prettier-ignore
    row.className = "slider";
    row.hidden = rank >= SLIDERS;
    number.className = "number";
    track.className = "track";
    bar.className = "bar";
    bar.style.width = `${(100 * contents.importance[dimension]) / largest}%`;
    row.title = `dimension ${dimension}: ${contents.importance[dimension].toPrecision(3)}`;
    range.type = "range";
    range.min = String(contents.mean[dimension] - REACH * contents.std[dimension]);
    range.max = String(contents.mean[dimension] + REACH * contents.std[dimension]);
    range.step = "any";
    range.setAttribute("aria-label", `Dimension ${dimension}`);
    range.addEventListener("input", () => {
      const latent = Float32Array.from(state.latent);
      latent[dimension] = Number(range.value);
      state.go(latent);
    });
    track.append(bar, range);
    row.append(number, track, output);
    box.append(row);
    return { dimension, row, range, output };
  });
  const more = buttonOf("more");
  more.hidden = size <= SLIDERS;
  more.textContent = `Show all ${size}`;
  more.addEventListener("click", () => {
    for (const { row } of rows) row.hidden = false;
    more.hidden = true;
  });
  elementOf("sliders-hint").textContent = `The bar under each is its ${contents.orderedBy}.`;
  return () => {
    for (const { dimension, range, output } of rows) {
      const value = state.latent[dimension];
      if (document.activeElement !== range || Number(range.value) !== value) range.value = String(value);
      output.textContent = value.toFixed(2);
    }
  };
}

// Samples.

/** @type {Float32Array[]} */
let drawn = [];
let samplesNumber = 0;

function fillSamples() {
  const box = elementOf("samples");
  for (let index = 0; index < PICTURES; index++) {
    const [button, canvas] = [element("button"), element("canvas")];
    button.type = "button";
    canvas.className = "pixels";
    [, canvas.height, canvas.width] = contents.shape;
    button.append(canvas);
    button.setAttribute("aria-label", `Go to sample ${index + 1}`);
    button.addEventListener("click", () => {
      if (!drawn[index]) return;
      if (contents.conditional) {
        state.label = sampleLabel;
        selectOf("label").value = String(sampleLabel);
      }
      state.go(drawn[index]);
    });
    box.append(button);
  }
}

async function drawSamples() {
  const number = ++samplesNumber;
  const mixture = priorOf(sampleLabel);
  drawn = Array.from({ length: PICTURES }, (_, index) => mixture.draw(seed, index, temperature));
  const canvases = elementOf("samples").querySelectorAll("canvas");
  for (let first = 0; first < PICTURES; ) {
    const latents = drawn.slice(first, first + chunk());
    const values = await network.decode(latents, contents.conditional ? sampleLabel : null);
    if (number !== samplesNumber) return;
    latents.forEach((_, index) => paint(canvases[first + index], pixels(values, contents.shape, index)));
    first += latents.length;
    await pause();
  }
}

function listenToSamples() {
  const [field, range, labels] = [inputOf("seed"), inputOf("temperature"), selectOf("sample-label")];
  const show = () => {
    field.value = String(seed);
    range.value = String(temperature);
    elementOf("temperature-text").textContent = temperature.toFixed(2);
    labels.value = sampleLabel === null ? "" : String(sampleLabel);
  };
  const draw = () => {
    show();
    changedView();
    drawSamples().catch(fail);
  };
  field.addEventListener("change", () => {
    const view = fromHash(`#seed=${field.value.trim()}`, contents);
    if (view.seed === undefined) toast("A seed is a whole number below 2⁶⁴.");
    else seed = view.seed;
    draw();
  });
  buttonOf("new-seed").addEventListener("click", () => {
    seed = drawSeed();
    draw();
  });
  range.addEventListener("input", () => {
    temperature = Number(range.value);
    draw();
  });
  elementOf("sample-label-row").hidden = !contents.classes.length;
  if (!contents.conditional) labels.append(new Option("any", ""));
  contents.classes.forEach((name, label) => labels.append(new Option(name, String(label))));
  labels.addEventListener("change", () => {
    sampleLabel = labels.value === "" ? null : Number(labels.value);
    draw();
  });
  buttonOf("copy-samples").addEventListener("click", () => {
    const view = { seed, temperature, label: sampleLabel ?? undefined };
    void copied(sampleCommand(view, PICTURES, COLUMNS, contents), "command copied");
  });
  show();
  return show;
}

// Your picture.

/** @type {Float32Array | null} */
let own = null;

function listenToYours() {
  elementOf("yours-card").hidden = !contents.hasEncoder;
  const [channels, height, width] = contents.shape;
  const canvas = canvasOf("sheet");
  const scale = 280 / Math.max(width, height);
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  for (const id of ["seen", "rebuilt"]) [canvasOf(id).width, canvasOf(id).height] = [width, height];
  const sheet = new Sheet(canvas, () => void see(canvas, true));
  const isDark = contents.paper < "#8";
  sheet.paper = contents.paper;
  sheet.colour = isDark ? "#ffffff" : "#202020";
  elementOf("ink-row").hidden = channels === 1;
  const ink = inputOf("ink");
  ink.value = sheet.colour;
  ink.addEventListener("input", () => (sheet.colour = ink.value));
  sheet.clear();
  /** @type {HTMLCanvasElement | ImageBitmap} */
  let source = canvas;
  /** @param {HTMLCanvasElement | ImageBitmap} shown @param {boolean} byHand */
  async function see(shown, byHand) {
    source = shown;
    const tensor = toTensor(shown, contents.shape, inputOf("invert").checked, sheet.paper);
    own = byHand ? centred(tensor, contents.shape) : tensor;
    paint(canvasOf("seen"), pixels(own, contents.shape));
    await rebuilt.run();
  }
  const rebuilt = new Newest(async () => {
    if (!own) return;
    const latent = await network.encode(own, state.label);
    const values = await network.decode([latent], state.label);
    paint(canvasOf("rebuilt"), pixels(values, contents.shape));
    state.go(latent);
  });
  /** @param {Blob | null | undefined} file */
  async function open(file) {
    if (!file) return;
    try {
      const picture = await createImageBitmap(file);
      sheet.show(picture);
      await see(picture, false);
    } catch {
      toast("This browser cannot read that as a picture.");
    }
  }
  buttonOf("clear").addEventListener("click", () => {
    sheet.clear();
    source = canvas;
    own = null;
    for (const id of ["seen", "rebuilt"]) context(canvasOf(id)).clearRect(0, 0, width, height);
  });
  inputOf("file").addEventListener("change", () => void open(inputOf("file").files?.[0]));
  inputOf("invert").addEventListener("change", () => own && void see(source, source === canvas));
  document.addEventListener("paste", (event) => {
    const items = [...(event.clipboardData?.items ?? [])];
    void open(items.find((item) => item.type.startsWith("image/"))?.getAsFile());
  });
  const card = elementOf("yours-card");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    card.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget || card.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    card.classList.remove("dropping");
    void open(event.dataTransfer?.files[0]);
  });
}

// A, B and C.

/** @typedef {{ latent: Float32Array | null, label: number | null }} Slot */
/** @type {Map<string, Slot>} */
const slots = new Map(["A", "B", "C"].map((name) => [name, { latent: null, label: null }]));
/** The way from A to B. @type {import("./prior.js").Latent[]} */
let way = [];
/** @type {Float32Array | null} */
let sum = null;

function listenToSlots() {
  const method = selectOf("method");
  const fits = contents.hasPrior && network.prior.components >= size;
  if (contents.hasPrior) method.append(new Option("through the prior", "string"));
  method.append(new Option("arc (slerp)", "slerp"), new Option("straight (lerp)", "lerp"));
  method.value = fits ? "string" : "slerp";
  for (const canvas of document.querySelectorAll(".thumb canvas")) {
    if (canvas instanceof HTMLCanvasElement) [, canvas.height, canvas.width] = contents.shape;
  }
  const strip = Array.from({ length: STRIP }, () => {
    const canvas = element("canvas");
    canvas.className = "pixels";
    [, canvas.height, canvas.width] = contents.shape;
    elementOf("strip").append(canvas);
    return canvas;
  });
  const range = inputOf("between");
  const [a, b, c] = /** @type {Slot[]} */ (["A", "B", "C"].map((name) => slots.get(name)));
  const enable = () => {
    range.disabled = buttonOf("play").disabled = !(a.latent && b.latent);
    for (const [name, slot] of slots) buttonOf(`slot-${name.toLowerCase()}`).disabled = !slot.latent;
    buttonOf("sum").disabled = !sum;
  };
  const update = async () => {
    way = a.latent && b.latent ? wayBetween(a.latent, b.latent, method.value) : [];
    sum = null;
    if (a.latent && b.latent && c.latent) {
      const [from, minus, plus] = [a.latent, b.latent, c.latent];
      sum = from.map((value, row) => value - minus[row] + plus[row]);
    }
    enable();
    placeMarks();
    plane.draw();
    const shown = way.length ? strip.map((_, index) => way[Math.round((index * (FINE - 1)) / (STRIP - 1))]) : [];
    for (let index = 0; index < shown.length; index++) {
      paint(strip[index], pixels(await network.decode([shown[index]], a.label), contents.shape));
    }
    if (sum) paint(canvasIn("sum"), pixels(await network.decode([sum], a.label), contents.shape));
  };
  for (const [name, slot] of slots) {
    const button = `slot-${name.toLowerCase()}`;
    buttonOf(`keep-${name.toLowerCase()}`).addEventListener("click", async () => {
      slot.latent = Float32Array.from(state.latent);
      slot.label = state.label;
      const values = await network.decode([slot.latent], slot.label);
      paint(canvasIn(button), pixels(values, contents.shape));
      toast(`kept as ${name}`);
      await update();
    });
    buttonOf(button).addEventListener("click", () => slot.latent && state.go(slot.latent, slot.label));
  }
  buttonOf("sum").addEventListener("click", () => sum && state.go(sum, a.label));
  method.addEventListener("change", () => void update());
  range.addEventListener("input", () => way.length && state.go(way[Number(range.value)], a.label));
  listenToPlay(range);
  enable();
}

/** @param {HTMLInputElement} range */
function listenToPlay(range) {
  const button = buttonOf("play");
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
      await new Promise((resolve) => setTimeout(resolve, next <= 0 || next >= FINE - 1 ? 500 : 33));
    }
  });
}

/** @param {string} id */
function canvasIn(id) {
  const canvas = elementOf(id).querySelector("canvas");
  if (!canvas) throw new Error(`no canvas in ${id}`);
  return canvas;
}

/** FINE latents from `a` to `b`. @param {Float32Array} a @param {Float32Array} b @param {string} method */
function wayBetween(a, b, method) {
  if (method === "string") return spaced(priorHere().string(a, b), FINE);
  const between = method === "lerp" ? mixed : slerp;
  return Array.from({ length: FINE }, (_, step) => between(a, b, step / (FINE - 1)));
}

// The address.

let pending = 0;

function changedView() {
  clearTimeout(pending);
  pending = window.setTimeout(() => history.replaceState(null, "", hash()), 250);
}

function hash() {
  const label = contents.conditional ? state.label : sampleLabel;
  return toHash({ latent: [...state.latent], label: label ?? undefined, seed, temperature, dims: dims ?? undefined });
}

/** @param {string} text @param {string} done */
async function copied(text, done) {
  toast((await copy(text)) ? done : "The browser does not let this page copy.");
}

/** Go where the address says. @returns {boolean} Whether it names a latent. */
function readAddress() {
  const view = fromHash(location.hash, contents);
  seed = view.seed ?? seed;
  temperature = view.temperature ?? temperature;
  sampleLabel = view.label ?? (contents.conditional ? 0 : sampleLabel);
  dims = view.dims ?? null;
  if (contents.conditional) state.label = sampleLabel;
  if (view.latent) state.go(view.latent);
  return view.latent !== undefined;
}

function listenToButtons() {
  const labels = selectOf("label");
  elementOf("label-row").hidden = !contents.conditional;
  contents.classes.forEach((name, label) => labels.append(new Option(name, String(label))));
  labels.addEventListener("change", () => {
    state.go(state.latent, Number(labels.value));
    void drawBackdrop();
  });
  buttonOf("random").addEventListener("click", () => state.go(priorHere().draw(drawSeed(), 0, 1)));
  buttonOf("reset").addEventListener("click", () => state.go(mean));
  buttonOf("save").addEventListener("click", () => save(canvasOf("picture"), "picture.png"));
  buttonOf("copy-command").addEventListener("click", () => {
    void copied(decodeCommand(state.latent, state.label, contents), "command copied");
  });
  buttonOf("copy-link").addEventListener("click", () => {
    history.replaceState(null, "", hash());
    void copied(location.href, "link copied");
  });
  inputOf("backdrop").addEventListener("change", () => void drawBackdrop());
}

async function openPoints() {
  const latents = new Float32Array((await embeddedBytes("latents")).buffer);
  encoded = Array.from({ length: points.count }, (_, index) => latents.subarray(index * size, (index + 1) * size));
  const sheet = await embeddedBytes("sheet");
  if (sheet.length) sheetOfPoints = await createImageBitmap(new Blob([sheet], { type: "image/webp" }));
}

async function start() {
  elementOf("name").textContent = contents.name;
  elementOf("size").textContent = size === 1 ? "one number" : `${size} numbers`;
  elementOf("facts").textContent = contents.facts.join(" · ");
  await Promise.all([network.open(), openPoints()]);
  if (!readAddress()) state.go(priorOf(sampleLabel).draw(seed, 0, 1));
  elementOf("status").hidden = true;
  elementOf("main").hidden = false;
  await currentPicture.run();
  document.documentElement.dataset.first = String(Math.round(performance.now()));
  const showAxes = fillAxes();
  fillLegend();
  fillSamples();
  const updates = [fillNeighbours(), fillSliders(), placeMarks, () => void currentPicture.run(), changedView];
  const showSampling = listenToSamples();
  listenToButtons();
  listenToSlots();
  await network.openEncoder();
  listenToYours();
  for (const update of updates) state.subscribe(update);
  state.go(state.latent);
  await drawSamples();
  showPlane();
  window.addEventListener("hashchange", () => {
    if (!readAddress()) return;
    showAxes();
    showSampling();
    showPlane();
    drawSamples().catch(fail);
  });
  document.documentElement.dataset.state = "ready";
  // For the console of the curious, and for tests.
  Object.assign(globalThis, { explore: { contents, network, state, numberText } });
}

start().catch(fail);
