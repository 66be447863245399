// Pictures of a video by the time at which they are on screen, as in media/video.py: decoded by the
// browser, shrunk with a cubic kernel that is widened, so that thin things do not flicker.

import { ALL_FORMATS, BlobSource, Input, VideoSampleSink, type VideoSample } from "mediabunny";
import type { Card } from "./card";
import type { Pictures } from "./pipeline";

const MOST_PX = 1280;
const PACKETS = 250;
const [LEAST_FPS, MOST_FPS] = [20, 31];

export interface Film {
  seconds: number;
  /** Pictures in the first seconds; `mostS` bounds what is decoded. */
  pictures(card: Card, seconds: number, onDone: (part: number) => void): Promise<Pictures>;
}

/** Open a file that the browser can decode. */
export async function openFilm(file: Blob): Promise<Film> {
  const input = new Input({ source: new BlobSource(file), formats: ALL_FORMATS });
  let track;
  try {
    track = await input.getPrimaryVideoTrack();
  } catch {
    throw new Error("This is no video that the page can read; give an MP4, MOV, WebM or MKV file.");
  }
  if (!track) throw new Error("This file has no picture; give a video.");
  if (!("VideoDecoder" in globalThis)) throw new Error("This browser can't decode videos here (no WebCodecs).");
  if (!(await track.canDecode())) {
    throw new Error(`This browser can't decode ${track.codec ?? "this kind of video"}; give another file.`);
  }
  const begin = await track.getFirstTimestamp();
  const sink = new VideoSampleSink(track);
  return {
    seconds: (await track.computeDuration()) - begin,
    async pictures(card, seconds, onDone) {
      const fps = evenRate((await track.computePacketStats(PACKETS)).averagePacketRate, card.timebase.sync_fps);
      const wanted = timesOf(seconds, { vision: card.timebase.vision_fps, sync: fps });
      const shapes = {
        vision: [card.vision.height_px, card.vision.width_px],
        sync: [card.sync.side_px, card.sync.side_px],
      } as const;
      const made = { vision: [] as Uint8Array[], sync: [] as Uint8Array[] };
      const times = wanted.map(({ time }) => begin + time);
      const looked = new Map<number, Looked>();
      let i = 0;
      for await (const sample of sink.samplesAtTimestamps(times)) {
        const { kind } = wanted[i]!;
        onDone(++i / wanted.length);
        if (!sample) throw new Error("A picture of this video can't be decoded.");
        const key = sample.timestamp;
        if (!looked.has(key)) {
          looked.clear();
          looked.set(key, new Looked(sample));
        }
        made[kind].push(looked.get(key)!.at(shapes[kind][0], shapes[kind][1]));
        sample.close();
      }
      return { vision: joined(made.vision), sync: joined(made.sync), syncFps: fps };
    },
  };
}

/** Times of the pictures of both encoders, in order; each is looked at in its middle. */
export function timesOf(
  seconds: number,
  fps: { vision: number; sync: number },
): { time: number; kind: "vision" | "sync" }[] {
  const kinds = ["vision", "sync"] as const;
  const times = kinds.flatMap((kind) =>
    Array.from({ length: Math.ceil(seconds * fps[kind] - 1e-9) }, (_, i) => ({ time: (i + 0.5) / fps[kind], kind })),
  );
  return times.sort((a, b) => a.time - b.time);
}

/** Rate near `fps` at which every picture of a file is taken equally often, as in timebase.py. */
export function evenRate(fileFps: number, fps: number): number {
  const rate = fileFps / Math.max(1, Math.round(fileFps / fps));
  return rate >= (LEAST_FPS / 25) * fps && rate <= (MOST_FPS / 25) * fps ? rate : fps;
}

/** One decoded picture, at the sizes that are asked for. */
class Looked {
  private readonly pixels: ImageData;
  private readonly made = new Map<string, Uint8Array>();

  constructor(sample: VideoSample) {
    const scale = Math.min(1, MOST_PX / Math.max(sample.displayWidth, sample.displayHeight));
    const width = Math.max(1, Math.round(sample.displayWidth * scale));
    const height = Math.max(1, Math.round(sample.displayHeight * scale));
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("This browser can't draw pictures here.");
    context.imageSmoothingQuality = "high";
    sample.draw(context, 0, 0, width, height);
    this.pixels = context.getImageData(0, 0, width, height);
  }

  at(height: number, width: number): Uint8Array {
    const key = `${height} ${width}`;
    const found = this.made.get(key) ?? shrunk(this.pixels, height, width);
    this.made.set(key, found);
    return found;
  }
}

/** Weights of a cubic kernel (a = -.6, as FFmpeg's scaler has it) for each place of a line. */
function kernels(from: number, to: number): { first: number; weights: Float32Array }[] {
  const step = from / to;
  const wide = Math.max(1, step);
  const cubic = (x: number): number => {
    const a = -0.6;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? a * (((x - 5) * x + 8) * x - 4) : 0;
  };
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * step - 0.5;
    const [first, last] = [Math.ceil(centre - 2 * wide), Math.floor(centre + 2 * wide)];
    const begin = Math.max(0, first);
    const weights = new Float32Array(Math.min(last, from - 1) - begin + 1);
    for (let k = first; k <= last; k++) {
      const inside = Math.min(Math.max(k, 0), from - 1) - begin; // the edge goes on outside
      weights[inside]! += cubic(Math.abs(k - centre) / wide);
    }
    const sum = weights.reduce((a, b) => a + b);
    return { first: begin, weights: weights.map((weight) => weight / sum) };
  });
}

/** RGB of another size; the shape of the picture is squashed to it. */
export function shrunk(
  picture: { data: Uint8ClampedArray; width: number; height: number },
  height: number,
  width: number,
): Uint8Array {
  const { data } = picture;
  const lines = new Float32Array(picture.height * width * 3);
  const across = kernels(picture.width, width);
  for (let y = 0; y < picture.height; y++) {
    for (let x = 0; x < width; x++) {
      const { first, weights } = across[x]!;
      let [r, g, b] = [0, 0, 0];
      for (let k = 0, at = (y * picture.width + first) * 4; k < weights.length; k++, at += 4) {
        const weight = weights[k]!;
        r += weight * data[at]!;
        g += weight * data[at + 1]!;
        b += weight * data[at + 2]!;
      }
      const to = (y * width + x) * 3;
      lines[to] = r;
      lines[to + 1] = g;
      lines[to + 2] = b;
    }
  }
  const made = new Uint8ClampedArray(height * width * 3);
  const row = new Float32Array(width * 3);
  for (const [y, { first, weights }] of kernels(picture.height, height).entries()) {
    row.fill(0);
    for (let k = 0; k < weights.length; k++) {
      const from = (first + k) * width * 3;
      for (let i = 0; i < row.length; i++) row[i]! += weights[k]! * lines[from + i]!;
    }
    made.set(row, y * width * 3);
  }
  return new Uint8Array(made.buffer);
}

function joined(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
