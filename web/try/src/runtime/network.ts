// The guided network over a clip of any length, as in generate/onnx/network.py.
// Shapes: L latent frames, C channels, T tokens; a batch is a conditioned and a null branch.

import { latentRate, type Card } from "./card";
import type { Predict } from "./solver";
import { array, type Array, type Graph } from "./graphs";

const OVERLAP_S = 2;

/** Conditions of one clip; what is absent is one masked token of zeros. */
export interface Conditions {
  seconds: number;
  text: Array; // T E
  textMask: Uint8Array;
  vision: Array; // T V
  visionMask: Uint8Array;
  sync: Array; // L S
  hasVideo: boolean;
}

/** First frames of windows of one length, spread evenly over a clip. */
export function windowStarts(frames: number, window: number, overlap: number): number[] {
  if (frames <= window) return [0];
  const count = Math.ceil((frames - overlap) / (window - overlap));
  const last = frames - window;
  return Array.from({ length: count }, (_, i) => Math.floor((i * last) / (count - 1)));
}

/** Weights of the windows' frames; they sum to 1 at every frame. */
export function crossfadeWeights(
  starts: number[],
  frames: number,
  window: number,
): Float32Array[] {
  const triangle = Float32Array.from({ length: window }, (_, i) =>
    Math.min(i + 0.5, window - i - 0.5),
  );
  const total = new Float32Array(frames);
  for (const start of starts) triangle.forEach((value, i) => (total[start + i]! += value));
  return starts.map((start) => triangle.map((value, i) => value / total[start + i]!));
}

/** The prediction for a whole clip: windows of the native length, faded into each other. */
export async function predictor(
  graphs: { prepare: Graph; denoise: Graph },
  card: Card,
  conditions: Conditions,
  frames: number,
  scale: number,
): Promise<Predict> {
  const rate = latentRate(card);
  const channels = card.latent_dim;
  const window = Math.ceil(card.defaults.max_duration_s * rate);
  if (frames <= window) return overWindow(graphs, conditions, frames, channels, scale);
  const overlap = Math.ceil(Math.min(OVERLAP_S, card.defaults.max_duration_s / 2) * rate);
  const starts = windowStarts(frames, window, overlap);
  const weights = crossfadeWeights(starts, frames, window);
  const parts: Predict[] = [];
  for (const start of starts) {
    const cut = windowOf(card, conditions, start, window);
    parts.push(await overWindow(graphs, cut, window, channels, scale));
  }
  return async (x, time) => {
    const whole = new Float32Array(x.length);
    for (const [w, start] of starts.entries()) {
      const first = start * channels;
      const made = await parts[w]!(x.slice(first, first + window * channels), time);
      for (let i = 0; i < made.length; i++) {
        whole[first + i]! += weights[w]![Math.floor(i / channels)]! * made[i]!;
      }
    }
    return whole;
  };
}

/** Cut a window out of one long clip. */
export function windowOf(
  card: Card,
  whole: Conditions,
  start: number,
  window: number,
): Conditions {
  const rate = latentRate(card);
  const [dim, syncDim] = [card.vision.dim, card.sync.dim];
  const sync = whole.sync.data.slice(start * syncDim, (start + window) * syncDim) as Float32Array;
  const cut = { ...whole, seconds: window / rate, sync: array(sync, [window, syncDim]) };
  if (!whole.hasVideo) return cut;
  const shown = whole.visionMask.length;
  const first = Math.floor((start / rate) * card.timebase.vision_fps + 0.5);
  const count = Math.ceil((window / rate) * card.timebase.vision_fps);
  const vision = new Float32Array(count * dim);
  const visionMask = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const at = Math.min(first + i, shown - 1);
    vision.set((whole.vision.data as Float32Array).subarray(at * dim, (at + 1) * dim), i * dim);
    visionMask[i] = whole.visionMask[at]!;
  }
  return { ...cut, vision: array(vision, [count, dim]), visionMask };
}

const PREPARED = ["keys", "values", "mask_B11T", "modulation_BLM", "duration_BD"] as const;
const NULLED: ReadonlySet<string> = new Set(["keys", "values", "modulation_BLM"]);

async function overWindow(
  graphs: { prepare: Graph; denoise: Graph },
  given: Conditions,
  frames: number,
  channels: number,
  scale: number,
): Promise<Predict> {
  const batched = (a: Array): Array => array(a.data, [1, ...a.shape]);
  const made = await graphs.prepare({
    text_BTE: batched(given.text),
    text_mask_BT: array(given.textMask, [1, given.textMask.length], "bool"),
    vision_BTV: batched(given.vision),
    vision_mask_BT: array(given.visionMask, [1, given.visionMask.length], "bool"),
    sync_BLS: batched(given.sync),
    seconds_B: array(Float32Array.of(given.seconds), [1]),
  });
  const count = scale === 1 ? 1 : 2;
  const prepared = Object.fromEntries(
    PREPARED.map((name, i) => [name, count === 1 ? made[i]! : stacked(made[i]!, NULLED.has(name))]),
  );
  return async (x, time) => {
    const twice = new Float32Array(x.length * count);
    for (let i = 0; i < count; i++) twice.set(x, i * x.length);
    const [out] = await graphs.denoise({
      x_BLC: array(twice, [count, frames, channels]),
      t_B: array(new Float32Array(count).fill(time), [count]),
      ...prepared,
    });
    const all = out!.data as Float32Array;
    if (count === 1) return all;
    const none = all.subarray(x.length);
    return all.slice(0, x.length).map((value, i) => none[i]! + scale * (value - none[i]!));
  };
}

/** A value with that of the null branch: zeros, or the same where guidance has none apart. */
function stacked(value: Array, nulled: boolean): Array {
  const { data } = value;
  if (data instanceof BigInt64Array) throw new TypeError("expected numbers, got int64");
  const both = data instanceof Uint8Array ? new Uint8Array(2 * data.length) : new Float32Array(2 * data.length);
  both.set(data);
  if (!nulled) both.set(data, data.length);
  return array(both, [2, ...value.shape.slice(1)], value.type);
}
