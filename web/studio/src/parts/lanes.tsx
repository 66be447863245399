/** Lanes drawn on a canvas that stays in view while the time axis scrolls under it. */
import { effect, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import * as api from "../api";
import type { Peaks } from "../api";
import { duration } from "../session";
import { clock, dark, pixelsPerSecond, scrolled, tall, width } from "../view";

interface Visible {
  from_s: number;
  perSecond: number;
  width: number;
  height: number;
}

type Draw = (canvas: CanvasRenderingContext2D, visible: Visible) => void;

/** A canvas of the visible part, drawn again when it scrolls, zooms or changes its theme. */
function Lane(props: { height: number; draw: Draw; depends: unknown; class?: string }): JSX.Element {
  const ref = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    let frame = 0;
    const paint = (): void => {
      frame = 0;
      const canvas = ref.current;
      const context = canvas?.getContext("2d");
      if (!canvas || !context) return;
      const ratio = devicePixelRatio;
      const wide = Math.round(width.peek() * ratio);
      const high = Math.round(props.height * ratio);
      if (canvas.width !== wide || canvas.height !== high) {
        canvas.width = wide;
        canvas.height = high;
      }
      canvas.style.width = `${width.peek()}px`;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width.peek(), props.height);
      props.draw(context, {
        from_s: scrolled.peek() / pixelsPerSecond.peek(),
        perSecond: pixelsPerSecond.peek(),
        width: width.peek(),
        height: props.height,
      });
    };
    const stop = effect(() => {
      void [scrolled.value, pixelsPerSecond.value, width.value, dark.value, tall.value];
      frame ||= requestAnimationFrame(paint);
    });
    return () => {
      stop();
      cancelAnimationFrame(frame);
    };
  }, [props.depends, props.height]);
  return (
    <canvas ref={ref} class={`lane-canvas ${props.class ?? ""}`} style={{ height: `${props.height}px` }} aria-hidden="true" />
  );
}

const colour = (name: string): string =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const TICKS_S = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
const MIN_TICK_PX = 64;

/** Times along the axis. */
export function Ruler(): JSX.Element {
  const draw: Draw = (canvas, { from_s, perSecond, width, height }) => {
    const step = TICKS_S.find((tick) => tick * perSecond >= MIN_TICK_PX) ?? 600;
    const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    canvas.font = "11px system-ui, sans-serif";
    canvas.textBaseline = "middle";
    canvas.fillStyle = colour("--muted");
    canvas.strokeStyle = colour("--line");
    canvas.beginPath();
    for (let k = Math.floor(from_s / step); k * step < from_s + width / perSecond; k++) {
      for (let part = 0; part < 5; part++) {
        const x = Math.round((k * step + (part * step) / 5 - from_s) * perSecond) + 0.5;
        canvas.moveTo(x, height);
        canvas.lineTo(x, part ? height - 4 : height - 9);
      }
      canvas.fillText(clock(k * step, digits), (k * step - from_s) * perSecond + 4, height / 2 - 2);
    }
    canvas.stroke();
  };
  return <Lane height={24} draw={draw} depends={duration.value} />;
}

/** Each level halves the number of peaks of the one before, so that any zoom reads few of them. */
function pyramid(peaks: Peaks): Float32Array[] {
  const levels = [new Float32Array(peaks.length * 2)];
  peaks.forEach(([low, high], index) => levels[0]!.set([low, high], index * 2));
  for (let from = levels[0]!; from.length > 512; ) {
    const next = new Float32Array(Math.ceil(from.length / 4) * 2);
    for (let index = 0; index < next.length / 2; index++) {
      const at = index * 4;
      next[index * 2] = Math.min(from[at]!, from[at + 2] ?? 0);
      next[index * 2 + 1] = Math.max(from[at + 1]!, from[at + 3] ?? 0);
    }
    levels.push(next);
    from = next;
  }
  return levels;
}

const FINE_PER_SECOND = 200;
const COARSE_PER_SECOND = 50;
const MAX_FINE_S = 120;

const fetched = new Map<string, Promise<Float32Array[]>>();

function levelsOf(url: string): Promise<Float32Array[]> {
  let levels = fetched.get(url);
  if (!levels) {
    levels = api.peaks(url).then(pyramid);
    levels.catch(() => fetched.delete(url));
    fetched.set(url, levels);
  }
  return levels;
}

const FLOOR_DB = -54;

/** Height of a sample by its level: 0 at the floor, 1 at full scale. */
const byLevel = (value: number): number =>
  Math.sign(value) * Math.max(0, 1 - (20 * Math.log10(Math.abs(value) + 1e-9)) / FLOOR_DB);

/** Waveform of a sound from peaks that the server made. */
export function Wave(props: { url: string; duration_s: number; active: boolean; height: number }): JSX.Element {
  const levels = useSignal<Float32Array[] | null>(null);
  const perSecond = props.duration_s > MAX_FINE_S ? COARSE_PER_SECOND : FINE_PER_SECOND;
  useEffect(() => {
    let gone = false;
    levelsOf(`${props.url}?per_second=${perSecond}`).then(
      (made) => gone || (levels.value = made),
      () => {},
    );
    return () => {
      gone = true;
    };
  }, [props.url]);
  const draw: Draw = (canvas, visible) => {
    const middle = visible.height / 2;
    canvas.fillStyle = colour("--line");
    canvas.fillRect(0, middle, Math.min(visible.width, (props.duration_s - visible.from_s) * visible.perSecond), 1);
    if (!levels.value) return;
    const perPixel = perSecond / visible.perSecond;
    const place = Math.min(Math.max(0, Math.floor(Math.log2(Math.max(1, perPixel)))), levels.value.length - 1);
    const peaks = levels.value[place]!;
    const scale = perSecond / 2 ** place;
    const count = peaks.length / 2;
    const from = Math.max(0, Math.floor(visible.from_s * scale));
    const to = Math.min(count - 1, Math.ceil((visible.from_s + visible.width / visible.perSecond) * scale));
    const x = (index: number): number => ((index + 0.5) / scale - visible.from_s) * visible.perSecond;
    const shape = tall.peek() ? byLevel : (value: number): number => value;
    const y = (value: number): number => middle - shape(value) * (middle - 2);
    canvas.fillStyle = colour(props.active ? "--accent" : "--wave");
    canvas.beginPath();
    for (let index = from; index <= to; index++) canvas.lineTo(x(index), y(peaks[index * 2 + 1]!) - 0.5);
    for (let index = to; index >= from; index--) canvas.lineTo(x(index), y(peaks[index * 2]!) + 0.5);
    canvas.fill();
  };
  return <Lane height={props.height} draw={draw} depends={`${props.url} ${levels.value?.length} ${props.active} ${props.duration_s}`} />;
}

function usePicture(url: string | null): HTMLImageElement | null {
  const picture = useSignal<HTMLImageElement | null>(null);
  useEffect(() => {
    picture.value = null;
    if (!url) return;
    const image = new Image();
    image.onload = () => (picture.value = image);
    image.src = url;
  }, [url]);
  return picture.value;
}

/** Spectrogram of the whole sound, stretched over the time axis. */
export function Spectrogram(props: { url: string; duration_s: number; height: number }): JSX.Element {
  const picture = usePicture(props.url);
  const draw: Draw = (canvas, visible) => {
    if (!picture) return;
    const perPixel = picture.naturalWidth / (props.duration_s * visible.perSecond);
    const left = visible.from_s * visible.perSecond * perPixel;
    const wide = Math.min(visible.width * perPixel, picture.naturalWidth - left);
    if (wide <= 0) return;
    canvas.drawImage(picture, left, 0, wide, picture.naturalHeight, 0, 0, wide / perPixel, visible.height);
  };
  return <Lane height={props.height} draw={draw} depends={`${props.url} ${picture !== null} ${props.duration_s}`} class="spectrogram" />;
}

/** Frames of the video, never stretched: each place shows the nearest frame that the server cut. */
export function Strip(props: { url: string; count: number; duration_s: number; height: number }): JSX.Element {
  const picture = usePicture(props.url);
  const draw: Draw = (canvas, visible) => {
    if (!picture) return;
    const cell = picture.naturalWidth / props.count;
    const wide = Math.max(8, (cell / picture.naturalHeight) * visible.height);
    const axis = props.duration_s * visible.perSecond;
    const offset = visible.from_s * visible.perSecond;
    for (let k = Math.floor(offset / wide); k * wide < Math.min(offset + visible.width, axis); k++) {
      const shown = Math.min(wide, axis - k * wide);
      const middle_s = (k * wide + shown / 2) / visible.perSecond;
      const index = Math.min(props.count - 1, Math.floor((middle_s / props.duration_s) * props.count));
      canvas.drawImage(picture, index * cell, 0, cell * (shown / wide), picture.naturalHeight, k * wide - offset, 0, shown, visible.height);
    }
  };
  return <Lane height={props.height} draw={draw} depends={`${props.url} ${picture !== null} ${props.duration_s}`} />;
}
