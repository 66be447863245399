// DPM-Solver++ 2M over arrays, as in diffusion/array_solver.py: Lu et al. 2022, arXiv:2211.01095,
// algorithm 2; Karras et al. 2022, arXiv:2206.00364.

export interface Sampler {
  kind: string;
  sigma_min: number;
  sigma_max: number;
  rho: number;
  bound: number;
}

/** A noisy latent and its time to the network's prediction, of the same length. */
export type Predict = (x: Float32Array, time: number) => Promise<Float32Array>;
export type OnStep = (done: number, total: number) => void;

/** Levels of all steps, from sigma_max to 0. */
export function noiseLevels(sampler: Sampler, numSteps: number): number[] {
  const power = sampler.rho || 1;
  const curved = sampler.rho !== 0 || numSteps === 1; // a single level is sigma_max here
  const [first, last] = [sampler.sigma_max, sampler.sigma_min].map((level) =>
    curved ? level ** (1 / power) : Math.log(level),
  ) as [number, number];
  const levels = Array.from({ length: numSteps }, (_, i) => {
    const place = numSteps === 1 ? first : first + ((last - first) * i) / (numSteps - 1);
    return Math.fround(curved ? place ** power : Math.exp(place));
  });
  return [...levels, 0];
}

/** Solve from noise to data, or from data (`start`) with some noise. */
export async function solve(
  predict: Predict,
  noise: Float32Array,
  sampler: Sampler,
  numSteps: number,
  { start, onStep }: { start?: Float32Array; onStep?: OnStep } = {},
): Promise<Float32Array> {
  if (sampler.kind !== "dpmpp-2m") throw new Error(`this page has no sampler ${sampler.kind}`);
  const sigmas = noiseLevels(sampler, numSteps);
  const scale = Math.fround(start ? sigmas[0]! : Math.hypot(sigmas[0]!, 1));
  let x = noise.map((value, i) => (start ? start[i]! : 0) + value * scale);
  let before: Float32Array | null = null;
  for (let step = 0; step < numSteps; step++) {
    const [sigma, following] = [sigmas[step]!, sigmas[step + 1]!];
    const angle = Math.atan(sigma);
    const [cos, sin] = [Math.fround(Math.cos(angle)), Math.fround(Math.sin(angle))];
    const seen = x.map((value) => value * cos);
    const made = await predict(seen, Math.fround((angle * 2) / Math.PI));
    const bound = sampler.bound || Infinity;
    const clean = seen.map((value, i) =>
      Math.min(Math.max(cos * value - sin * made[i]!, -bound), bound),
    );
    let half = 0;
    if (before && following > 0) {
      half = Math.log(sigma / following) / Math.log(sigmas[step - 1]! / sigma) / 2;
    }
    const share = following / sigma;
    const last = before;
    x = x.map((value, i) => {
      const towards = clean[i]! + (last ? half * (clean[i]! - last[i]!) : 0);
      return share * value + (1 - share) * towards;
    });
    before = clean;
    onStep?.(step + 1, numSteps);
  }
  return x;
}
