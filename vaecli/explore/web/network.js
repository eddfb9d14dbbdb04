/** The model's graphs in ONNX Runtime Web. One run at a time; everything else waits its turn. */

import { embeddedBytes } from "./embedded.js";
import { flown } from "./flow.js";
import { labelAt } from "./noise.js";
import { Mixture } from "./prior.js";

const WARM = 3; // first runs that no timing counts
const FRAME = 12; // milliseconds of a frame that decoding may take
const GUESS = 10; // milliseconds of a decode, until one is known

/**
 * @typedef {object} Session
 * @property {(feed: Record<string, unknown>, names: string[]) => Promise<Record<string, { data: Float32Array }>>} run
 */

/** @returns {any} The vendored runtime, which ships no types. */
function runtime() {
  return /** @type {any} */ (globalThis).ort;
}

/** Latents one after the other. @param {ArrayLike<number>[]} latents @param {number} size */
function stacked(latents, size) {
  const rows = new Float32Array(latents.length * size);
  latents.forEach((latent, index) => rows.set(latent, index * size));
  return rows;
}

export class Network {
  /** @param {import("./embedded.js").Contents} contents */
  constructor(contents) {
    this.contents = contents;
    /** @type {Session | null} */
    this._encoder = null;
    /** @type {Session | null} */
    this._decoder = null;
    /** @type {Session | null} */
    this._flow = null;
    this.prior = Mixture.normal(contents.latentDim);
    /** Milliseconds of each decode of one latent. @type {number[]} */
    this.timings = [];
    /** @type {Map<number | null, Mixture>} */
    this._priors = new Map();
    /** Done when all runs are that were asked for. @type {Promise<void>} */
    this.last = Promise.resolve();
    this._warm = 0;
  }

  /** Open what the first picture needs: what draws a latent, and the decoder. */
  async open() {
    const ort = runtime();
    ort.env.logLevel = "fatal";
    ort.env.wasm.numThreads = 1; // more need a page that is isolated from others, which a file is not
    ort.env.wasm.wasmBinary = await embeddedBytes("runtime");
    this._decoder = await this._session("decoder");
    if (this.contents.hasFlow) this._flow = await this._session("flow");
    else await this._openPrior();
  }

  /** Open the other graphs that are in the page. */
  async openOthers() {
    if (this.contents.hasFlow) await this._openPrior();
    if (this.contents.hasEncoder) this._encoder = await this._session("encoder");
  }

  /** @param {string} id @returns {Promise<Session>} */
  async _session(id) {
    return runtime().InferenceSession.create(await embeddedBytes(id), { executionProviders: ["wasm"] });
  }

  /** Take the numbers of the prior's mixture, which its graph has as outputs. */
  async _openPrior() {
    if (!this.contents.components) return;
    const ort = runtime();
    const { latentDim } = this.contents;
    const session = await this._session("prior");
    const feed = {
      noise: new ort.Tensor("float32", new Float32Array(latentDim), [1, latentDim]),
      choice: new ort.Tensor("float32", new Float32Array(1), [1]),
    };
    const found = await session.run(feed, ["log_weights", "means", "factors"]);
    this.prior = new Mixture(latentDim, Float64Array.from(found.log_weights.data), found.means.data, found.factors.data);
  }

  /** The prior of one class, where it knows classes. @param {number | null} label */
  priorOf(label) {
    const { classSizes } = this.contents;
    if (label === null || !classSizes.length || this.prior.isNormal) return this.prior;
    const first = classSizes.slice(0, label).reduce((sum, size) => sum + size, 0);
    const found = this._priors.get(label) ?? this.prior.part(first, classSizes[label]);
    this._priors.set(label, found);
    return found;
  }

  /**
   * Latents number `first` to `first + count` of a seed, as `vae sample` draws them: by the flow where there is one.
   *
   * @param {bigint} seed
   * @param {number} first
   * @param {number} count
   * @param {number} temperature
   * @param {number | null} label  Null: any class.
   * @returns {Promise<Float32Array[]>}
   */
  async draw(seed, first, count, temperature, label) {
    const positions = Array.from({ length: count }, (_, index) => first + index);
    if (this._flow) return this._flown(this._flow, seed, positions, temperature, label);
    return positions.map((position) => this.priorOf(label).draw(seed, position, temperature));
  }

  /** @param {Session} flow @param {bigint} seed @param {number[]} positions @param {number} temperature @param {number | null} label */
  async _flown(flow, seed, positions, temperature, label) {
    const ort = runtime();
    const { latentDim, flowShares } = this.contents;
    const count = positions.length;
    const start = Mixture.normal(latentDim);
    const noise = positions.map((position) => start.draw(seed, position, temperature));
    const known = flowShares.length > 0;
    const labels = known ? positions.map((position) => BigInt(label ?? labelAt(seed, position, flowShares))) : [];
    const found = await flown(stacked(noise, latentDim), (output, state, time) => {
      /** @type {Record<string, unknown>} */
      const feed = {
        state: new ort.Tensor("float32", state, [count, latentDim]),
        time: new ort.Tensor("float32", new Float32Array(count).fill(time), [count]),
      };
      if (known) feed.label = new ort.Tensor("int64", BigInt64Array.from(labels), [count]);
      return this._queued(async () => (await flow.run(feed, [output]))[output].data);
    });
    return positions.map((_, index) => found.subarray(index * latentDim, (index + 1) * latentDim));
  }

  /** How many latents are decoded in about a frame. */
  get batch() {
    return Math.max(1, Math.floor(FRAME / (this.timings.at(-1) ?? GUESS)));
  }

  /** Pictures of latents: (n, c, h, w) in [0, 1]. @param {ArrayLike<number>[]} latents @param {number | null} label */
  async decode(latents, label) {
    const ort = runtime();
    const { latentDim } = this.contents;
    const feed = { latent: new ort.Tensor("float32", stacked(latents, latentDim), [latents.length, latentDim]) };
    return this._queued(async () => {
      const start = performance.now();
      const found = await this._run(this._decoder, feed, ["image"], latents.length, label);
      if (latents.length === 1 && ++this._warm > WARM) this.timings.push(performance.now() - start);
      return found.image.data;
    });
  }

  /** The mean of q(z|x) of one picture (c, h, w) in [0, 1]. @param {Float32Array} picture @param {number | null} label */
  async encode(picture, label) {
    const ort = runtime();
    const feed = { image: new ort.Tensor("float32", picture, [1, ...this.contents.shape]) };
    const found = await this._queued(() => this._run(this._encoder, feed, ["mean"], 1, label));
    return found.mean.data;
  }

  /** @param {Session | null} session @param {Record<string, unknown>} feed @param {string[]} names @param {number} rows @param {number | null} label */
  _run(session, feed, names, rows, label) {
    if (!session) throw new Error("This graph is not in the page.");
    if (this.contents.conditional) {
      const labels = new BigInt64Array(rows).fill(BigInt(label ?? 0));
      feed.label = new (runtime().Tensor)("int64", labels, [rows]);
    }
    return session.run(feed, names);
  }

  /** Wait until all runs before this one are done. @template T @param {() => Promise<T>} work @returns {Promise<T>} */
  _queued(work) {
    const result = this.last.then(work);
    this.last = result.then(
      () => undefined,
      () => undefined,
    );
    return result;
  }
}
