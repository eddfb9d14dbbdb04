/** A view as text: in the address, to share it, and as commands, to draw the same in a terminal. */

/**
 * @typedef {object} View  What the address holds. Anything may be missing.
 * @property {number[]} [latent]
 * @property {number} [label]  Of a conditional model.
 * @property {bigint} [seed]  Of the samples.
 * @property {number} [temperature]  Of the samples.
 * @property {number} [sampled]  The class of the samples.
 * @property {[number, number]} [dims]  Of the plane, where it is not the principal components.
 */

const LARGEST_SEED = (1n << 64n) - 1n;

/** A seed from text; undefined where it is none. @param {string} text */
export function seedFrom(text) {
  return /^\d{1,20}$/.test(text) && BigInt(text) <= LARGEST_SEED ? BigInt(text) : undefined;
}

/** @param {View} view */
export function toHash(view) {
  const parts = [];
  if (view.latent) parts.push(`z=${view.latent.map(numberText).join(",")}`);
  if (view.label !== undefined) parts.push(`class=${view.label}`);
  if (view.seed !== undefined) parts.push(`seed=${view.seed}`);
  if (view.temperature !== undefined) parts.push(`temperature=${view.temperature}`);
  if (view.sampled !== undefined) parts.push(`sampled=${view.sampled}`);
  if (view.dims) parts.push(`dims=${view.dims.join(",")}`);
  return `#${parts.join("&")}`;
}

/** What can be read from an address; what makes no sense for this model is left out. @param {string} hash @param {import("./embedded.js").Contents} contents @returns {View} */
export function fromHash(hash, contents) {
  const given = new URLSearchParams(hash.slice(1));
  /** @type {View} */
  const view = {};
  const latent = numbers(given.get("z"));
  if (latent.length === contents.latentDim && latent.every((value) => Math.abs(value) < 1e6)) view.latent = latent;
  const isClass = (/** @type {number} */ label) => Number.isInteger(label) && label >= 0 && label < contents.classes.length;
  const [label, sampled] = ["class", "sampled"].map((name) => Number(given.get(name) ?? NaN));
  if (isClass(label)) view.label = label;
  if (isClass(sampled)) view.sampled = sampled;
  view.seed = seedFrom(given.get("seed") ?? "");
  const temperature = Number(given.get("temperature") ?? NaN);
  if (temperature >= 0 && temperature <= 2) view.temperature = temperature;
  const [across, up, ...more] = numbers(given.get("dims"));
  const known = [across, up].every((one) => Number.isInteger(one) && one >= 0 && one < contents.latentDim);
  if (known && across !== up && !more.length) view.dims = [across, up];
  return view;
}

/** @param {string | null} text */
function numbers(text) {
  const found = text ? text.split(",").map(Number) : [];
  return found.every(Number.isFinite) ? found : [];
}

/** Six digits: more than a picture shows. @param {number} value */
export function numberText(value) {
  return String(Number(value.toPrecision(6)));
}

/** @param {ArrayLike<number>} latent @param {number | null} label @param {import("./embedded.js").Contents} contents */
export function decodeCommand(latent, label, contents) {
  const list = `[${Array.from(latent, numberText).join(",")}]`;
  const given = contents.conditional && label !== null ? ` --label ${quoted(contents.classes[label])}` : "";
  return `echo '${list}' | vae decode -${contents.run}${given} -o picture.png`;
}

/**
 * @param {{ seed: bigint, temperature: number, label: number | null }} drawn
 * @param {number} n
 * @param {number} columns
 * @param {import("./embedded.js").Contents} contents
 */
export function sampleCommand(drawn, n, columns, contents) {
  const given = drawn.label === null ? "" : ` --label ${quoted(contents.classes[drawn.label])}`;
  const scaled = drawn.temperature === 1 ? "" : ` --temperature ${drawn.temperature}`;
  const options = ` --seed ${drawn.seed} --n ${n} --columns ${columns}${scaled}${given}`;
  return `vae sample${contents.run}${options} -o samples.png`;
}

/** A word for a shell. @param {string} word */
function quoted(word) {
  return /^[\w.,:+][\w.,:+-]*$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

/** Put text on the clipboard. @param {string} text */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Some browsers have no clipboard for a page from a file.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
