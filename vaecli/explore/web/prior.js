/** The prior p(z): a mixture of Gaussians, or N(0, I). As vaecli/inference/mixture.py computes it, in float64. */

import { choiceAt, normalLatent } from "./noise.js";

const SHARPNESS = 3; // 1: the mean of p(z | plane), soft where components meet; large: the likeliest component alone
const NODES = 5; // of a string, both ends included
const ROUNDS = 20; // of moving them

export const REACH = 3; // standard deviations from its mean, that the page shows of it

/** @typedef {ArrayLike<number>} Latent */

/**
 * @typedef {object} Slice  One component, seen in a plane.
 * @property {number} constant  The log density of a point at its mean, with its weight.
 * @property {[number, number]} mean
 * @property {[number, number, number]} inverse  Of its covariance: xx, xy, yy.
 * @property {Float64Array} slopes  How its mean moves with the point: (d, 2).
 */

export class Mixture {
  /**
   * @param {number} size  d
   * @param {Float64Array} logWeights  (k,)
   * @param {Float32Array} means  (k, d)
   * @param {Float32Array} factors  (k, d, d), lower triangular; empty for N(0, I)
   */
  constructor(size, logWeights, means, factors) {
    this.size = size;
    this.logWeights = logWeights;
    this.means = means;
    this.factors = factors;
    /** @type {Float32Array | null} */
    this._edges = null;
    /** @type {Map<string, Slice[]>} */
    this._slices = new Map();
  }

  /** N(0, I) as a mixture of one component. @param {number} size */
  static normal(size) {
    return new Mixture(size, Float64Array.of(0), new Float32Array(size), new Float32Array(0));
  }

  get isNormal() {
    return this.factors.length === 0;
  }

  get components() {
    return this.logWeights.length;
  }

  /** p(z | class): some components, their weights scaled to a sum of 1. @param {number} first @param {number} count */
  part(first, count) {
    const weights = this.logWeights.slice(first, first + count);
    const total = logSumExp(weights);
    const { size } = this;
    return new Mixture(
      size,
      weights.map((weight) => weight - total),
      this.means.subarray(first * size, (first + count) * size),
      this.factors.subarray(first * size * size, (first + count) * size * size),
    );
  }

  /** Draw number `position` of a seed, as `vae sample` has it. @param {bigint} seed @param {number} position @param {number} temperature */
  draw(seed, position, temperature) {
    const noise = normalLatent(seed, position, this.size);
    if (this.isNormal) return noise.map((value) => value * Math.fround(temperature));
    const at = this._component(choiceAt(seed, position));
    const scaled = Float64Array.from(noise, (value) => temperature * value);
    const latent = new Float32Array(this.size);
    for (let row = 0; row < this.size; row++) {
      latent[row] = this.means[at * this.size + row] + this._within(at, row, scaled);
    }
    return latent;
  }

  /** Row `row` of a factor times a vector. @param {number} component @param {number} row @param {Latent} vector */
  _within(component, row, vector) {
    const start = (component * this.size + row) * this.size;
    let sum = 0;
    for (let column = 0; column <= row; column++) sum += this.factors[start + column] * vector[column];
    return sum;
  }

  /** The component whose interval of cumulative weights holds `choice`. @param {number} choice */
  _component(choice) {
    if (!this._edges) {
      let sum = 0;
      const edges = Array.from(this.logWeights, (weight) => (sum += Math.exp(weight)));
      this._edges = Float32Array.from(edges, (edge) => edge / sum);
    }
    const found = this._edges.findIndex((edge) => edge > choice);
    return found < 0 ? this.components - 1 : found;
  }

  /**
   * A latent at a place of the plane, with values of all else that are likely under the prior.
   *
   * The mean of each component given the place, weighed by how well the component explains the place.
   *
   * @param {number[][]} axes  Two orthonormal directions.
   * @param {Latent} centre
   * @param {number} x
   * @param {number} y
   */
  likely(axes, centre, x, y) {
    const slices = this._seenIn(axes, centre);
    const scores = Float64Array.from(slices, ({ constant, mean, inverse }) => {
      const [dx, dy] = [x - mean[0], y - mean[1]];
      const squares = inverse[0] * dx * dx + 2 * inverse[1] * dx * dy + inverse[2] * dy * dy;
      return SHARPNESS * (constant - squares / 2);
    });
    const total = logSumExp(scores);
    const latent = new Float64Array(this.size);
    for (let k = 0; k < slices.length; k++) {
      const share = Math.exp(scores[k] - total);
      if (share < 1e-6) continue;
      const { mean, slopes } = slices[k];
      const [dx, dy] = [x - mean[0], y - mean[1]];
      for (let row = 0; row < this.size; row++) {
        const value = this.means[k * this.size + row] + slopes[2 * row] * dx + slopes[2 * row + 1] * dy;
        latent[row] += share * value;
      }
    }
    return moved(latent, axes, centre, x, y);
  }

  /** Each component in the plane, computed once. @param {number[][]} axes @param {Latent} centre */
  _seenIn(axes, centre) {
    const name = JSON.stringify(axes);
    const known = this._slices.get(name);
    if (known) return known;
    const found = Array.from({ length: this.components }, (_, k) => this._slice(k, axes, centre));
    this._slices.set(name, found);
    return found;
  }

  /** @param {number} k @param {number[][]} axes @param {Latent} centre @returns {Slice} */
  _slice(k, axes, centre) {
    const { size } = this;
    const mean = /** @type {[number, number]} */ ([0, 0]);
    const seen = [new Float64Array(size), new Float64Array(size)]; // the axes times the factor
    for (let axis = 0; axis < 2; axis++) {
      for (let row = 0; row < size; row++) {
        const along = axes[axis][row];
        mean[axis] += along * (this.means[k * size + row] - centre[row]);
        if (this.isNormal) seen[axis][row] = along;
        else if (along !== 0) {
          const start = (k * size + row) * size;
          for (let column = 0; column <= row; column++) seen[axis][column] += along * this.factors[start + column];
        }
      }
    }
    const [xx, xy, yy] = [dot(seen[0], seen[0]) + 1e-9, dot(seen[0], seen[1]), dot(seen[1], seen[1]) + 1e-9];
    const determinant = xx * yy - xy * xy;
    const inverse = /** @type {[number, number, number]} */ ([yy / determinant, -xy / determinant, xx / determinant]);
    const slopes = new Float64Array(2 * size);
    for (let row = 0; row < size; row++) {
      const a = this.isNormal ? seen[0][row] : this._within(k, row, seen[0]);
      const b = this.isNormal ? seen[1][row] : this._within(k, row, seen[1]);
      slopes[2 * row] = a * inverse[0] + b * inverse[1];
      slopes[2 * row + 1] = a * inverse[1] + b * inverse[2];
    }
    return { constant: this.logWeights[k] - Math.log(determinant) / 2, mean, inverse, slopes };
  }

  /**
   * A broken line between two latents through where the prior has its mass, by the string method; see `string` in
   * vaecli/inference/latents.py.
   *
   * @param {Latent} start
   * @param {Latent} end
   */
  string(start, end) {
    const straight = Array.from({ length: NODES }, (_, node) => mixed(start, end, node / (NODES - 1)));
    const reach = distance(start, end);
    let nodes = straight;
    for (let round = 0; round < ROUNDS; round++) {
      const lifted = nodes.map((node, index) =>
        index === 0 || index === NODES - 1 ? node : mixed(node, this._shifted(node), 0.5),
      );
      nodes = spaced(lifted, NODES).map((node, index) => {
        const far = distance(node, straight[index]);
        return far > reach ? mixed(straight[index], node, reach / far) : node;
      });
    }
    return nodes;
  }

  /** The means of the components, weighed by p(k | z). @param {Latent} latent */
  _shifted(latent) {
    const { size } = this;
    const white = new Float64Array(size);
    const scores = new Float64Array(this.components);
    for (let k = 0; k < this.components; k++) {
      let score = this.logWeights[k];
      for (let row = 0; row < size; row++) {
        const diagonal = this.factors[(k * size + row) * size + row];
        white[row] = 0;
        white[row] = (latent[row] - this.means[k * size + row] - this._within(k, row, white)) / diagonal;
        score -= white[row] ** 2 / 2 + Math.log(diagonal);
      }
      scores[k] = score;
    }
    const total = logSumExp(scores);
    const shifted = new Float64Array(size);
    for (let k = 0; k < this.components; k++) {
      const share = Math.exp(scores[k] - total);
      if (share > 1e-9) for (let row = 0; row < size; row++) shifted[row] += share * this.means[k * size + row];
    }
    return shifted;
  }
}

/** The latent with its place in the plane changed, and nothing else. @param {Latent} latent @param {number[][]} axes @param {Latent} centre @param {number} x @param {number} y */
export function moved(latent, axes, centre, x, y) {
  const [fromX, fromY] = placeOf(latent, axes, centre);
  return Float32Array.from(
    latent,
    (value, row) => value + axes[0][row] * (x - fromX) + axes[1][row] * (y - fromY),
  );
}

/** Where a latent is in the plane. @param {Latent} latent @param {number[][]} axes @param {Latent} centre @returns {[number, number]} */
export function placeOf(latent, axes, centre) {
  let [x, y] = [0, 0];
  for (let row = 0; row < latent.length; row++) {
    x += axes[0][row] * (latent[row] - centre[row]);
    y += axes[1][row] * (latent[row] - centre[row]);
  }
  return [x, y];
}

/** `(1 - t) a + t b`. @param {Latent} a @param {Latent} b @param {number} t */
export function mixed(a, b, t) {
  return Float64Array.from(a, (value, row) => (1 - t) * value + t * b[row]);
}

/** The great arc from `a` to `b`, or the straight line where none is defined; see `between` in latents.py. @param {Latent} a @param {Latent} b @param {number} t */
export function slerp(a, b, t) {
  const lengths = Math.sqrt(dot(a, a) * dot(b, b));
  const angle = lengths > 0 ? Math.acos(Math.min(1, Math.max(-1, dot(a, b) / lengths))) : 0;
  if (!(angle > 1e-6 && angle < Math.PI - 1e-6)) return mixed(a, b, t);
  const [first, last] = [Math.sin((1 - t) * angle) / Math.sin(angle), Math.sin(t * angle) / Math.sin(angle)];
  return Float64Array.from(a, (value, row) => first * value + last * b[row]);
}

/** How long each piece of a broken line is. @param {Latent[]} line */
export function lengthsOf(line) {
  return line.slice(1).map((latent, index) => distance(line[index], latent));
}

/** `count` points at equal distances along a broken line, whose pieces have these `lengths`. @param {Latent[]} line @param {number} count */
export function spaced(line, count, lengths = lengthsOf(line)) {
  const at = [0];
  for (const length of lengths) at.push(at[at.length - 1] + length);
  const length = at[at.length - 1];
  return Array.from({ length: count }, (_, step) => {
    const wanted = (length * step) / (count - 1);
    let leg = 1;
    while (leg < line.length - 1 && at[leg] < wanted) leg++;
    const piece = at[leg] - at[leg - 1];
    return mixed(line[leg - 1], line[leg], piece > 0 ? Math.min(1, (wanted - at[leg - 1]) / piece) : 0);
  });
}

/** @param {Latent} a @param {Latent} b */
export function distance(a, b) {
  let sum = 0;
  for (let row = 0; row < a.length; row++) sum += (a[row] - b[row]) ** 2;
  return Math.sqrt(sum);
}

/** @param {Latent} a @param {Latent} b */
function dot(a, b) {
  let sum = 0;
  for (let row = 0; row < a.length; row++) sum += a[row] * b[row];
  return sum;
}

/** @param {Float64Array} values */
function logSumExp(values) {
  let largest = -Infinity;
  for (const value of values) largest = Math.max(largest, value);
  let sum = 0;
  for (const value of values) sum += Math.exp(value - largest);
  return largest + Math.log(sum);
}
