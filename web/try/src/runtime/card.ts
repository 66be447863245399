// The model's card and its list of files, as `omni2sound try` writes them (browser/parts.py).

import type { Sampler } from "./solver";
import type { Rules } from "./words";

export interface Card {
  name: string;
  timebase: { sample_rate_hz: number; hop_samples: number; vision_fps: number; sync_fps: number };
  sampler: Sampler;
  defaults: { steps: number; guidance: number; duration_s: number; max_duration_s: number };
  sample_rate_hz: number;
  latent_dim: number;
  goes_on: boolean;
  text: { dim: number; max_tokens: number };
  vision: { dim: number; height_px: number; width_px: number };
  sync: { dim: number; side_px: number; fps: number };
}

/** Part of a file: its place in the file in bytes, and how it is stored. */
export type Span = [offset: number, length: number, stored: "float16" | "half" | "fine" | "raw"];

export interface PartFile {
  name: string;
  path: string;
  /** Bytes to be loaded. */
  bytes: number;
  sha256: string;
  /** Bytes of the file that it stands for; with `spans`. */
  size: number;
  spans?: Span[];
}

export interface Index {
  format: number;
  card: Card;
  rules: Rules;
  files: PartFile[];
}

/** Latent frames per second. */
export const latentRate = (card: Card): number =>
  card.timebase.sample_rate_hz / card.timebase.hop_samples;

/** Samples in so many seconds, rounded half-up. */
export const numSamples = (card: Card, seconds: number): number =>
  Math.floor(seconds * card.timebase.sample_rate_hz + 0.5);

/** The least number of latent frames that hold so many seconds. */
export const numFrames = (card: Card, seconds: number): number =>
  Math.ceil(numSamples(card, seconds) / card.timebase.hop_samples);
