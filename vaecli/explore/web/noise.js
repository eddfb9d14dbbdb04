/**
 * Random numbers that depend on a seed and a key alone: those of vaecli/noise.py, so that a seed draws the
 * same pictures here as `vae sample --seed` does. SplitMix64 for the bits, Box-Muller for the normal distribution.
 */

const MASK = (1n << 64n) - 1n;
const GOLDEN = 0x9e3779b97f4a7c15n;
const STREAMS = { prior: 1n, choice: 4n, label: 5n };
const HALF = 2 ** -32;

/** @param {bigint} state */
function splitmix64(state) {
  let mixed = ((state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  mixed = ((mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return mixed ^ (mixed >> 31n);
}

/** The key of one position in a stream. @param {bigint} seed @param {keyof STREAMS} stream @param {number} position */
function key(seed, stream, position) {
  const base = splitmix64((seed + GOLDEN * STREAMS[stream]) & MASK);
  return splitmix64(splitmix64((BigInt(position) + GOLDEN) & MASK) ^ base);
}

/** Word number `index` of a key. @param {bigint} of @param {number} index */
function word(of, index) {
  return splitmix64((of + BigInt(index + 1) * GOLDEN) & MASK);
}

/** Latent number `position` of N(0, I) for a seed. @param {bigint} seed @param {number} position @param {number} size */
export function normalLatent(seed, position, size) {
  const from = key(seed, "prior", position);
  const latent = new Float32Array(size);
  for (let index = 0; index < size; index += 2) {
    const bits = word(from, index / 2);
    const radius = Math.sqrt(-2 * Math.log((Number(bits >> 32n) + 0.5) * HALF));
    const angle = Number(bits & 0xffffffffn) * (2 * Math.PI * HALF);
    latent[index] = radius * Math.cos(angle);
    if (index + 1 < size) latent[index + 1] = radius * Math.sin(angle);
  }
  return latent;
}

/** The number in [0, 1) beside that latent, which picks a component. @param {bigint} seed @param {number} position */
export function choiceAt(seed, position) {
  return uniform(key(seed, "choice", position));
}

/** A class for that latent, with these probabilities. @param {bigint} seed @param {number} position @param {number[]} shares */
export function labelAt(seed, position, shares) {
  const drawn = uniform(key(seed, "label", position));
  const total = shares.reduce((sum, share) => sum + share, 0);
  let edge = 0;
  const found = shares.findIndex((share) => (edge += share) / total > drawn);
  return found < 0 ? shares.length - 1 : found;
}

/** The first number of a key in [0, 1). @param {bigint} of */
function uniform(of) {
  return Number(word(of, 0) >> 40n) * 2 ** -24;
}

/** A seed that nobody chose, small enough to read. */
export function drawSeed() {
  return BigInt(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000);
}
