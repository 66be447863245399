/** Keys: one table for what they do and for the help that lists them. */
import { signal } from "@preact/signals";
import { editRange, generate } from "./jobs";
import { note } from "./messages";
import * as player from "./player";
import { change, doc, duration, redo, undo, type Cue } from "./session";
import { dark, tall, theme, zoomBy, zoomToFit } from "./view";

export type Dialog = "help" | "export" | null;
export const dialog = signal<Dialog>(null);
/** Cue that is chosen on the track and in the list. */
export const chosenCue = signal<string | null>(null);
/** Cue whose text is to take the focus as soon as it is drawn. */
export const cueToType = signal<string | null>(null);

const before = signal<string | null>(null);

/** Chooses the take that is heard. */
export function choose(id: string): void {
  const current = doc.peek().current;
  if (current === id) return;
  before.value = current;
  change("another take chosen", { current: id }, "choose");
}

function chooseByPlace(place: number): void {
  const d = doc.peek();
  const id = place === 0 ? (d.media?.has_sound ? "original" : null) : d.takes[place - 1]?.id;
  if (id) choose(id);
}

function chooseNext(by: number): void {
  const ids = doc.peek().takes.map((take) => take.id);
  const place = ids.indexOf(doc.peek().current ?? "");
  const id = ids[(place + by + ids.length) % ids.length];
  if (id) choose(id);
}

/** What is heard instead after a switch back: what was heard before, else the next take. */
export function other(): string | null {
  const { takes, current, media } = doc.value;
  const ids = takes.map((take) => take.id);
  const known = media?.has_sound ? [...ids, "original"] : ids;
  if (before.value && before.value !== current && known.includes(before.value)) return before.value;
  return ids[(ids.indexOf(current ?? "") + 1) % ids.length] ?? null;
}

export function switchBack(): void {
  const id = other();
  if (id) choose(id);
}

export function addCue(from_s: number, to_s: number | null): void {
  const cue: Cue = { id: Math.random().toString(36).slice(2, 8), from_s, to_s, prompt: "" };
  change("cue added", { cues: [...doc.peek().cues, cue] });
  chosenCue.value = cue.id;
  cueToType.value = cue.id;
}

export function changeCue(id: string, patch: Partial<Cue>, merge: string): void {
  const cues = doc.peek().cues.map((cue) => (cue.id === id ? { ...cue, ...patch } : cue));
  change("cue changed", { cues }, `${merge}-${id}`);
}

export function removeCue(id: string): void {
  change("cue removed", { cues: doc.peek().cues.filter((cue) => cue.id !== id) });
  if (chosenCue.peek() === id) chosenCue.value = null;
}

export function removeTake(id: string): void {
  const d = doc.peek();
  const takes = d.takes.filter((take) => take.id !== id);
  const place = d.takes.findIndex((take) => take.id === id);
  const current = d.current === id ? (takes[Math.min(place, takes.length - 1)]?.id ?? null) : d.current;
  change("take put away", { takes, current });
}

function setRange(edge: 0 | 1): void {
  const at_s = player.time_s.peek();
  const range = doc.peek().range;
  const other = range?.[edge === 0 ? 1 : 0] ?? (edge === 0 ? duration.peek() : 0);
  const next: [number, number] =
    edge === 0 ? [at_s, other > at_s ? other : duration.peek()] : [other < at_s ? other : 0, at_s];
  if (next[1] - next[0] > 0.02) change("range chosen", { range: next }, "range");
}

export function undoWithNote(): void {
  const label = undo();
  note(label ? `Undone: ${label}.` : "There is nothing to undo.", 2, "undo");
}

export function redoWithNote(): void {
  const label = redo();
  note(label ? `Done again: ${label}.` : "There is nothing to redo.", 2, "undo");
}

const frame_s = (): number => 1 / (doc.peek().media?.frames_per_second ?? 25);
const move = (by_s: number): void => player.seek(player.time_s.peek() + by_s);

export interface Key {
  /** As in KeyboardEvent.key, with "Shift+" or "Mod+" (Ctrl, or Command) before it. */
  keys: string[];
  shown: string;
  does: string;
  group: "Listen" | "Time" | "Sound" | "Page";
  run: () => void;
  /** Also while a text field has the focus. */
  inText?: boolean;
}

export const KEYS: Key[] = [
  { keys: [" ", "k"], shown: "Space", does: "play or pause", group: "Listen", run: player.toggle },
  { keys: ["x"], shown: "X", does: "back to the take heard before: A, B, A, B", group: "Listen", run: switchBack },
  { keys: ["ArrowDown"], shown: "↓", does: "next take", group: "Listen", run: () => chooseNext(1) },
  { keys: ["ArrowUp"], shown: "↑", does: "previous take", group: "Listen", run: () => chooseNext(-1) },
  ...Array.from({ length: 10 }, (_, place) => ({
    keys: [String(place)],
    shown: place === 1 ? "1 … 9" : place === 0 ? "0" : "",
    does: place === 1 ? "take A … I" : place === 0 ? "the video's own sound" : "",
    group: "Listen" as const,
    run: () => chooseByPlace(place),
  })),
  { keys: ["l"], shown: "L", does: "repeat the range (or everything)", group: "Listen", run: () => (player.looping.value = !player.looping.peek()) },
  { keys: ["ArrowLeft"], shown: "← →", does: "a frame back, on", group: "Time", run: () => move(-frame_s()) },
  { keys: ["ArrowRight"], shown: "", does: "", group: "Time", run: () => move(frame_s()) },
  { keys: ["Shift+ArrowLeft"], shown: "Shift ← →", does: "a second back, on", group: "Time", run: () => move(-1) },
  { keys: ["Shift+ArrowRight"], shown: "", does: "", group: "Time", run: () => move(1) },
  { keys: ["Home"], shown: "Home, End", does: "to the start, to the end", group: "Time", run: () => player.seek(0) },
  { keys: ["End"], shown: "", does: "", group: "Time", run: () => player.seek(duration.peek()) },
  { keys: ["+", "="], shown: "+ −", does: "zoom in, out (also Ctrl and wheel)", group: "Time", run: () => zoomBy(1.5) },
  { keys: ["-"], shown: "", does: "", group: "Time", run: () => zoomBy(1 / 1.5) },
  { keys: ["w"], shown: "W", does: "quiet parts drawn taller, or as they are", group: "Time", run: () => (tall.value = !tall.peek()) },
  { keys: ["f"], shown: "F", does: "see all of it", group: "Time", run: zoomToFit },
  { keys: ["i"], shown: "I, O", does: "range begins, ends here", group: "Time", run: () => setRange(0) },
  { keys: ["o"], shown: "", does: "", group: "Time", run: () => setRange(1) },
  { keys: ["Escape"], shown: "Esc", does: "no range, no cue chosen", group: "Time", run: unchoose },
  { keys: ["Mod+Enter"], shown: "Ctrl Enter", does: "make takes", group: "Sound", run: () => void generate(), inText: true },
  { keys: ["r"], shown: "R", does: "make the range new", group: "Sound", run: () => void editRange() },
  { keys: ["c"], shown: "C", does: "cue at this time", group: "Sound", run: () => addCue(player.time_s.peek(), null) },
  { keys: ["Shift+c", "Shift+C"], shown: "Shift C", does: "cue over the range", group: "Sound", run: cueOverRange },
  { keys: ["Delete", "Backspace"], shown: "Del", does: "remove the chosen cue", group: "Sound", run: () => chosenCue.peek() && removeCue(chosenCue.peek()!) },
  { keys: ["Mod+z"], shown: "Ctrl Z", does: "undo", group: "Page", run: undoWithNote },
  { keys: ["Mod+Shift+z", "Mod+Shift+Z", "Mod+y"], shown: "Ctrl Shift Z", does: "redo", group: "Page", run: redoWithNote },
  { keys: ["e"], shown: "E", does: "export", group: "Page", run: () => doc.peek().takes.length && (dialog.value = "export") },
  { keys: ["d"], shown: "D", does: "dark or light", group: "Page", run: () => (theme.value = dark.peek() ? "light" : "dark") },
  { keys: ["?", "Shift+?"], shown: "?", does: "this list", group: "Page", run: () => (dialog.value = "help") },
];

function unchoose(): void {
  chosenCue.value = null;
  if (doc.peek().range) change("range let go", { range: null });
}

export function cueOverRange(): void {
  const range = doc.peek().range;
  if (range) addCue(range[0], range[1]);
  else addCue(player.time_s.peek(), Math.min(player.time_s.peek() + 1, duration.peek()));
}

function isText(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  return target instanceof HTMLInputElement && !["checkbox", "radio", "button", "range"].includes(target.type);
}

/** Keys with which a slider that has the focus is moved. */
const SLIDES = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];

function slides(event: KeyboardEvent): boolean {
  const { target } = event;
  return target instanceof HTMLInputElement && target.type === "range" && SLIDES.includes(event.key);
}

const byName = new Map(KEYS.flatMap((key) => key.keys.map((name) => [name, key] as const)));

/** Runs what a key stands for, unless a text field or a dialog wants it. */
export function onKey(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.altKey || dialog.peek()) return;
  const modified = event.ctrlKey || event.metaKey;
  const name = `${modified ? "Mod+" : ""}${event.shiftKey && event.key !== "?" && event.key !== "+" ? "Shift+" : ""}${event.key}`;
  const key = byName.get(name);
  if (!key || slides(event)) return;
  if (isText(event.target)) {
    if (event.key === "Escape") (event.target as HTMLElement).blur();
    if (!key.inText) return;
  }
  const pressed = event.target instanceof HTMLButtonElement || event.target instanceof HTMLAnchorElement;
  if (pressed && (event.key === " " || event.key === "Enter") && !modified) return;
  event.preventDefault();
  key.run();
}
