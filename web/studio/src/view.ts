/** What is seen of the time axis, and how times and levels are written. */
import { computed, effect, signal } from "@preact/signals";
import { duration } from "./session";
import { keep, kept } from "./storage";

/** Frames of a video that are asked for: the server draws up to 64. */
export const stripCount = (duration_s: number): number =>
  Math.min(64, Math.max(24, Math.round(duration_s)));

/** Pixels a second; null: all of it fits. */
export const zoom = signal<number | null>(null);
export const width = signal(800);
export const scrolled = signal(0);

/** Whether waveforms are drawn by level (decibels), so that quiet parts are seen. */
export const tall = signal(false);

const MAX_ZOOM = 600;

export const pixelsPerSecond = computed(() => {
  const fit = width.value / duration.value;
  return zoom.value === null ? fit : Math.min(Math.max(zoom.value, fit), MAX_ZOOM);
});
export const contentWidth = computed(() => Math.round(duration.value * pixelsPerSecond.value));

let scroller: HTMLElement | null = null;

export function setScroller(element: HTMLElement | null): void {
  scroller = element;
}

function scrollTo(left: number): void {
  if (!scroller) return;
  scroller.scrollLeft = left;
  scrolled.value = scroller.scrollLeft;
}

/** Zooms by a factor about a place in the visible part, by default its middle. */
export function zoomBy(factor: number, about_px = width.peek() / 2): void {
  const before = pixelsPerSecond.peek();
  const at_s = (scrolled.peek() + about_px) / before;
  const fit = width.peek() / duration.peek();
  const next = Math.min(before * factor, MAX_ZOOM);
  zoom.value = next <= fit * 1.001 ? null : next;
  // The content takes its new width in the next frame.
  requestAnimationFrame(() => scrollTo(at_s * pixelsPerSecond.peek() - about_px));
}

export const zoomToFit = (): void => {
  zoom.value = null;
};

/** Scrolls so that a time is seen. */
export function reveal(at_s: number): void {
  const x = at_s * pixelsPerSecond.peek();
  if (x < scrolled.peek() || x > scrolled.peek() + width.peek() - 8)
    scrollTo(x - width.peek() * 0.1);
}

export type Theme = "system" | "dark" | "light";

const isTheme = (text: string | null): text is Theme =>
  text === "system" || text === "dark" || text === "light";
const keptTheme = kept("omni2sound.theme");
export const theme = signal<Theme>(isTheme(keptTheme) ? keptTheme : "system");
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const systemIsDark = signal(systemDark.matches);
systemDark.addEventListener("change", () => (systemIsDark.value = systemDark.matches));
export const dark = computed(() =>
  theme.value === "system" ? systemIsDark.value : theme.value === "dark",
);

effect(() => {
  document.documentElement.dataset["theme"] = dark.value ? "dark" : "light";
  keep("omni2sound.theme", theme.value);
});

/** 75.5 as "1:15.50"; short: "1:15". */
export function clock(seconds: number, digits = 2): string {
  const scale = 10 ** digits;
  const rounded = Math.round(Math.max(0, seconds) * scale) / scale;
  const minutes = Math.floor(rounded / 60);
  const rest = (rounded - minutes * 60).toFixed(digits);
  return `${minutes}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

/** "1:15.5" or "75.5" in seconds, or null. */
export function parsed(text: string): number | null {
  const match = /^(?:(\d+):)?(\d+(?:[.,]\d*)?)$/.exec(text.trim());
  return match ? Number(match[1] ?? 0) * 60 + Number(match[2]!.replace(",", ".")) : null;
}

/** "about 40 s left". */
export function timeLeft(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1.5) return "a second left";
  if (seconds < 90) return `about ${Math.round(seconds)} s left`;
  return `about ${Math.round(seconds / 60)} min left`;
}

export const level = (value: number | null, unit: string): string =>
  value === null ? `silent` : `${value.toFixed(1).replace("-", "−")} ${unit}`;
