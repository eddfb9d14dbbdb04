/** A flow: latents drawn by moving noise along the velocity that its network computes. As vaecli/inference/flow.py. */

const STEPS = 10;

/**
 * What noise of N(0, I) becomes, by Heun's method from time 0 to 1. The state is in float64.
 *
 * @param {Float32Array} noise  Any number of latents, one after the other.
 * @param {(output: "velocity" | "latent", state: Float32Array, time: number) => Promise<Float32Array>} run
 */
export async function flown(noise, run) {
  const state = Float64Array.from(noise);
  const step = 1 / STEPS;
  for (let number = 0; number < STEPS; number++) {
    const first = await run("velocity", Float32Array.from(state), number * step);
    const ahead = Float32Array.from(state, (value, index) => value + step * first[index]);
    const second = await run("velocity", ahead, (number + 1) * step);
    for (let index = 0; index < state.length; index++) state[index] += (step * (first[index] + second[index])) / 2;
  }
  return run("latent", Float32Array.from(state), 1);
}
