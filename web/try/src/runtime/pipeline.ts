// From a sentence, pictures, or both to sound; the steps of generate/onnx/pipeline.py.

import { latentRate, numFrames, numSamples, type Index } from "./card";
import { canFill, NOISE, NUM_STEPS, repeatStretch } from "./goingOn";
import { array, type Array, type Graph } from "./graphs";
import { predictor, type Conditions } from "./network";
import { Noise } from "./noise";
import { resample } from "./resample";
import { solve, type OnStep } from "./solver";
import { Tokenizer, type TokenizerFile } from "./tokenizer";
import { asksForSpeechAlone, goesOn } from "./words";

const RATE_HZ = 44_100;
const LOW_HOP = 160;
const HOP = 441;
const PICTURES_PER_CALL = 4;
const SYNC_CHUNK = 48;
const SYNC_MARGIN = 16;

/** Longest sound that the page makes, in seconds. */
export const MOST_S = 16;

/** Pictures of a video, uint8 RGB, row by row. */
export interface Pictures {
  /** At the model's vision rate, of its picture encoder's size. */
  vision: Uint8Array;
  /** At `syncFps`, of its sync encoder's size. */
  sync: Uint8Array;
  syncFps: number;
}

export interface Request {
  prompt: string;
  seconds: number;
  seed: number;
  pictures?: Pictures;
}

export interface Sound {
  samples: Float32Array;
  rateHz: number;
}

/** The model's files, and what opens a graph by its name. */
export interface Model {
  index: Index;
  tokenizer: TokenizerFile;
  graph(name: string): Promise<Graph>;
  has(name: string): boolean;
}

/** Make the sound of a request. `onStage` gets what is being done, in a few words. */
export async function generate(
  model: Model,
  request: Request,
  onStage: (stage: string) => void = () => {},
  onStep?: OnStep,
): Promise<Sound> {
  const { card, rules } = model.index;
  const prompt = request.prompt.trim();
  const told = prompt && !asksForSpeechAlone(prompt, rules) ? prompt : "";
  if (!told && !request.pictures) {
    throw new Error(
      prompt
        ? "This asks for speech, which this model does not make; name another sound."
        : "Nothing is asked for: write a sentence, or choose a video.",
    );
  }
  if (!(request.seconds > 0 && request.seconds <= MOST_S)) {
    throw new Error(`Expected more than 0 and at most ${MOST_S} seconds, got ${request.seconds}.`);
  }
  onStage("encoding");
  const conditions = await encode(model, told, request);
  onStage("sampling");
  const frames = numFrames(card, request.seconds);
  const graphs = { prepare: await model.graph("prepare"), denoise: await model.graph("denoise") };
  const predict = await predictor(graphs, card, conditions, frames, card.defaults.guidance);
  const draws = new Noise(request.seed);
  const noise = draws.normal(frames * card.latent_dim);
  const { steps } = card.defaults;
  let latents = await solve(predict, noise, card.sampler, steps, onStep ? { onStep } : {});
  if (card.goes_on && !request.pictures && canFill(frames) && goesOn(told, rules)) {
    onStage("going on");
    const level = await model.graph("level");
    const [power] = await level({ latents_BLC: array(latents, [1, frames, card.latent_dim]) });
    const start = repeatStretch(latents, power!.data as Float32Array, draws);
    const again = draws.normal(latents.length);
    latents = await solve(predict, again, { ...card.sampler, sigma_max: NOISE }, NUM_STEPS, {
      start,
    });
  }
  onStage("decoding");
  return decode(model, latents, frames, request.seconds);
}

async function encode(model: Model, prompt: string, request: Request): Promise<Conditions> {
  const { card } = model.index;
  const frames = numFrames(card, request.seconds);
  const { pictures, seconds } = request;
  let text = array(new Float32Array(card.text.dim), [1, card.text.dim]);
  let textMask = new Uint8Array(1);
  if (prompt) {
    const ids = new Tokenizer(model.tokenizer).encode(prompt, card.text.max_tokens);
    const encodeText = await model.graph("text");
    const [states] = await encodeText({
      ids_BT: array(BigInt64Array.from(ids.map(BigInt)), [1, ids.length], "int64"),
      mask_BT: array(new BigInt64Array(ids.length).fill(1n), [1, ids.length], "int64"),
    });
    text = array(states!.data, [ids.length, card.text.dim]);
    textMask = new Uint8Array(ids.length).fill(1);
  }
  let vision = array(new Float32Array(card.vision.dim), [1, card.vision.dim]);
  let sync = array(new Float32Array(frames * card.sync.dim), [frames, card.sync.dim]);
  if (pictures) {
    vision = await visionFeatures(model, pictures.vision);
    sync = await syncFeatures(model, pictures, seconds, frames);
  }
  const visionMask = new Uint8Array(vision.shape[0]!).fill(pictures ? 1 : 0);
  return { seconds, text, textMask, vision, visionMask, sync, hasVideo: pictures !== undefined };
}

async function visionFeatures(model: Model, pictures: Uint8Array): Promise<Array> {
  const { dim, height_px, width_px } = model.index.card.vision;
  const size = height_px * width_px * 3;
  const count = pictures.length / size;
  const embed = await model.graph("vision");
  const made = new Float32Array(count * dim);
  for (let i = 0; i < count; i += PICTURES_PER_CALL) {
    const end = Math.min(count, i + PICTURES_PER_CALL);
    const part = pictures.subarray(i * size, end * size);
    const [out] = await embed({ frames_THWC: array(part, [end - i, height_px, width_px, 3]) });
    made.set(out!.data as Float32Array, i * dim);
  }
  return array(made, [count, dim]);
}

/** Sync features, one for each latent frame. */
async function syncFeatures(
  model: Model,
  { sync, syncFps }: Pictures,
  seconds: number,
  frames: number,
): Promise<Array> {
  const { card } = model.index;
  const { dim, side_px } = card.sync;
  const size = side_px * side_px * 3;
  const count = sync.length / size;
  const embed = await model.graph("sync");
  const features = new Float32Array(count * dim);
  for (let begin = 0; begin < count; begin += SYNC_CHUNK) {
    const first = Math.max(0, begin - SYNC_MARGIN);
    const end = Math.min(count, begin + SYNC_CHUNK);
    const last = Math.min(count, end + SYNC_MARGIN);
    const part = sync.subarray(first * size, last * size);
    const [out] = await embed({ frames_THWK: array(part, [last - first, side_px, side_px, 3]) });
    const kept = (out!.data as Float32Array).subarray((begin - first) * dim, (end - first) * dim);
    features.set(kept, begin * dim);
  }
  const fps = card.timebase.sync_fps;
  const wanted = Math.ceil(seconds * fps);
  const made = new Float32Array(frames * dim);
  for (let i = 0; i < frames; i++) {
    const index = Math.floor((i + 0.5) * (card.sync.fps / latentRate(card)));
    if (index >= wanted) break;
    const place = Math.min(Math.max((index + 0.5) * (syncFps / fps) - 0.5, 0), count - 1);
    const before = Math.floor(place);
    const after = Math.min(before + 1, count - 1);
    for (let d = 0; d < dim; d++) {
      const [a, b] = [features[before * dim + d]!, features[after * dim + d]!];
      made[i * dim + d] = a + (place - before) * (b - a);
    }
  }
  return array(made, [frames, dim]);
}

async function decode(
  model: Model,
  latents: Float32Array,
  frames: number,
  seconds: number,
): Promise<Sound> {
  const { card } = model.index;
  const decoder = await model.graph("decoder");
  const size = frames * card.timebase.hop_samples;
  const [made] = await decoder({
    latents_BLC: array(latents, [1, frames, card.latent_dim]),
    noise_1N: array(new Noise(0).normal(size), [1, size]),
  });
  const low = (made!.data as Float32Array).slice(0, numSamples(card, seconds));
  const lowHz = card.timebase.sample_rate_hz;
  if (!model.has("band")) return { samples: low, rateHz: lowHz };
  const rows = Math.ceil(low.length / LOW_HOP);
  const padded = new Float32Array(rows * LOW_HOP);
  padded.set(low);
  const band = await model.graph("band");
  const [added] = await band({
    low_BN: array(padded, [1, padded.length]),
    noise_1N: array(new Noise(0).normal(rows * HOP), [1, rows * HOP]),
  });
  const above = added!.data as Float32Array;
  const samples = resample(low, lowHz, RATE_HZ).map((value, i) => value + above[i]!);
  return { samples, rateHz: RATE_HZ };
}
