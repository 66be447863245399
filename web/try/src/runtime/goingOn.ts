// Continuous sounds that fill a clip from end to end, as in generate/going_on.py. Shapes: L latent
// frames, C channels, flat in that order.

import type { Noise } from "./noise";

export const NOISE = 1;
export const NUM_STEPS = 4;
const SMOOTH_FRAMES = 13;
const RANGE_DB = 20;
const LEAST_FRAMES = 16;
const EDGE_FRAMES = 4;
const FADE_FRAMES = 8;

/** Whether a clip of so many frames is long enough to be filled. */
export const canFill = (numFrames: number): boolean => numFrames > 2 * LEAST_FRAMES;

/** The longest stretch of sound, repeated over the whole clip; without one nothing changes. */
export function repeatStretch(
  latents: Float32Array,
  level: Float32Array,
  draws: Noise,
): Float32Array {
  const [first, last] = longestStretch(level);
  if (last - first < LEAST_FRAMES) return latents.slice();
  const channels = latents.length / level.length;
  const piece = latents.subarray(first * channels, last * channels);
  return repeated(piece, first, level.length, channels, draws);
}

/** Mean over `size` values around each one, the earlier half first; ends are held. */
export function runningMean(values: ArrayLike<number>, size: number): Float64Array {
  const before = Math.floor(size / 2);
  const at = (i: number): number => values[Math.min(Math.max(i - before, 0), values.length - 1)]!;
  const sums = new Float64Array(values.length + size);
  for (let i = 1; i < sums.length; i++) sums[i] = sums[i - 1]! + at(i - 1);
  return Float64Array.from(values, (_, i) => (sums[i + size]! - sums[i]!) / size);
}

/** First frame and end of the longest stretch that sounds, without its attack and decay. */
export function longestStretch(level: Float32Array): [number, number] {
  const smooth = runningMean(level, SMOOTH_FRAMES).map(
    (value) => 10 * Math.log10(Math.max(value, 0) + 1e-12),
  );
  const least = smooth.reduce((a, b) => Math.max(a, b)) - RANGE_DB;
  let [first, last] = [0, 0];
  for (let begin = 0, i = 0; i <= smooth.length; i++) {
    if (i < smooth.length && smooth[i]! > least) continue;
    if (i - begin > last - first) [first, last] = [begin, i];
    begin = i + 1;
  }
  const loud = 10 ** (least / 10); // smoothing has widened it
  while (!(level[first]! > loud)) first++;
  while (!(level[last - 1]! > loud)) last--;
  if (last - first > LEAST_FRAMES + 2 * EDGE_FRAMES) {
    if (first > 0) first += EDGE_FRAMES;
    if (last < level.length) last -= EDGE_FRAMES;
  }
  return [first, last];
}

function repeated(
  piece: Float32Array,
  at: number,
  numFrames: number,
  channels: number,
  draws: Noise,
): Float32Array {
  const sum = new Float32Array(numFrames * channels);
  const weight = new Float32Array(numFrames);
  const length = piece.length / channels;
  const put = (begin: number, end: number, first: number): void => {
    const size = end - begin;
    const fade = Math.min(FADE_FRAMES, Math.floor(size / 2));
    for (let i = Math.max(0, -first); i < size && first + i < numFrames; i++) {
      const ramp = Math.min((i + 0.5) / fade, (size - i - 0.5) / fade, 1);
      weight[first + i]! += ramp;
      for (let c = 0; c < channels; c++) {
        sum[(first + i) * channels + c]! += ramp * piece[(begin + i) * channels + c]!;
      }
    }
  };
  const cut = (): number => draws.below(Math.max(1, Math.floor(length / 3)));
  put(0, length, at);
  let [behind, before] = [at + length, at];
  while (behind - FADE_FRAMES < numFrames) {
    const begin = cut();
    put(begin, length, behind - FADE_FRAMES);
    behind += length - begin - FADE_FRAMES;
  }
  while (before + FADE_FRAMES > 0) {
    const end = length - cut();
    put(0, end, before + FADE_FRAMES - end);
    before -= end - FADE_FRAMES;
  }
  return sum.map((value, i) => value / weight[Math.floor(i / channels)]!);
}
