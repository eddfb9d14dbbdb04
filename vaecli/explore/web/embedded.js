/** What `vae explore` put into this page: text as JSON, everything else as base64 of gzip. */

/**
 * @typedef {object} Points  Encoded pictures, n of them; their latents are a block of its own.
 * @property {number} count
 * @property {number[]} labels  The class of each, as a number; empty where classes are not known.
 * @property {string[]} classes  Their names.
 * @property {number} columns  Pictures in a row of the sheet.
 * @property {[number, number]} side  Width and height of a picture in the sheet.
 */

/**
 * @typedef {object} Contents  What the page knows of the model. Written by contents.py.
 * @property {string} name  Of the data.
 * @property {string} run  The model's folder, for commands to copy.
 * @property {[number, number, number]} shape  Channels, height, width.
 * @property {number} latentDim
 * @property {boolean} conditional  Whether encoder and decoder need a class.
 * @property {string[]} classes  Of a conditional model, or of its prior or flow.
 * @property {number[]} classSizes  Components of the prior for each class; empty where they belong to none.
 * @property {number[]} flowShares  The share of each class in the pictures that the flow learned; empty where it knows none.
 * @property {boolean} hasEncoder
 * @property {number} components  Of the mixture that is the prior; 0: N(0, I).
 * @property {boolean} hasFlow
 * @property {string[]} facts  Short sentences about the model.
 * @property {number[]} order  Dimensions, those that matter most first.
 * @property {number[]} importance  Of each dimension by its number: KL in nats, or squared change.
 * @property {string} orderedBy  What these numbers are, in words.
 * @property {number[]} mean  Of the prior, for each dimension.
 * @property {number[]} std  Of the prior, for each dimension.
 * @property {number[]} centre  Of the plane.
 * @property {number[][]} axes  Two directions that span the plane, of length 1.
 * @property {number} spread  The share of the variance of the points that the plane shows.
 * @property {string} source  What the points are.
 * @property {Points} points
 * @property {string} paper  The colour behind a drawing.
 * @property {number} temperature  Of samples, at the start.
 */

/** @param {string} id @returns {Contents} */
export function embeddedJson(id) {
  return JSON.parse(textOf(id));
}

/** The bytes of a block, unpacked; nothing where the block is not there. @param {string} id */
export async function embeddedBytes(id) {
  const text = textOf(id);
  if (!text) return new Uint8Array(0);
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @param {string} id */
function textOf(id) {
  const block = document.getElementById(`embedded-${id}`);
  const text = block?.textContent ?? "";
  block?.remove(); // megabytes that nobody needs twice
  return text;
}
