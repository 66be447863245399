/**
 * What one tab works on: an immutable document with undo and redo, kept in this browser.
 *
 * Sound and pictures stay on the server; kept are ids and what was typed. Each tab holds a lock on
 * its own session, so that a second tab begins with a copy instead of writing over the first.
 */
import { batch, computed, effect, signal } from "@preact/signals";
import { keep, kept } from "./storage";
import type { Media, Seen, StemMix, Take } from "./api";

export interface Cue {
  id: string;
  from_s: number;
  /** Null: a point in time, as of a slammed door. */
  to_s: number | null;
  prompt: string;
}

export interface Doc {
  media: Media | null;
  seen: Seen[];
  seenOff: string[];
  prompt: string;
  negative: string;
  ambience: boolean;
  cues: Cue[];
  /** Without a video: how long the sound is to be. */
  duration_s: number;
  numTakes: number;
  seed: number | null;
  steps: number | null;
  takes: Take[];
  /** Id of the take that is heard, or "original" for the video's own sound. */
  current: string | null;
  range: [number, number] | null;
  /** Whether each cue and each recognised thing is made by itself. */
  stems: boolean;
  /** By take and name of the stem. */
  mixes: Record<string, Record<string, StemMix>>;
}

export interface Pending {
  id: string;
  take?: string;
}

const EMPTY: Doc = {
  media: null,
  seen: [],
  seenOff: [],
  prompt: "",
  negative: "",
  ambience: true,
  cues: [],
  duration_s: 8,
  numTakes: 2,
  seed: null,
  steps: null,
  takes: [],
  current: null,
  range: null,
  stems: false,
  mixes: {},
};

interface Step {
  label: string;
  doc: Doc;
}

interface Kept {
  doc: Doc;
  past: Step[];
  future: Step[];
  pending: Pending[];
  saved: number;
}

const MAX_STEPS = 200;
const MAX_KEPT_STEPS = 40;
const MERGE_MS = 1200;
const PREFIX = "omni2sound.session.";

export const doc = signal<Doc>(EMPTY);
export const pending = signal<Pending[]>([]);
/** Whether something was begun: a file, or words alone. */
export const begun = signal(false);
const past = signal<Step[]>([]);
const future = signal<Step[]>([]);
let mergeKey = "";
let mergedAt = 0;

export const canUndo = computed(() => past.value.at(-1)?.label ?? null);
export const canRedo = computed(() => future.value.at(-1)?.label ?? null);

/** Length of the time axis. */
export const duration = computed(() => {
  const d = doc.value;
  const least = d.media?.duration_s ?? d.duration_s;
  return Math.max(least, ...d.takes.map((take) => take.duration_s), 0.1);
});

export const currentTake = computed(
  () => doc.value.takes.find((take) => take.id === doc.value.current) ?? null,
);

/** A, B, ... Z, A2, B2: names of takes by their place. */
export const letter = (index: number): string =>
  String.fromCharCode(65 + (index % 26)) + (index < 26 ? "" : String(Math.floor(index / 26) + 1));

/**
 * Changes the document as one step that can be undone.
 *
 * Steps with the same `merge` that follow each other quickly (typing, dragging) become one.
 */
export function change(label: string, patch: Partial<Doc>, merge = ""): void {
  const now = performance.now();
  const merged = merge !== "" && merge === mergeKey && now - mergedAt < MERGE_MS;
  mergeKey = merge;
  mergedAt = now;
  batch(() => {
    if (!merged) past.value = [...past.value, { label, doc: doc.value }].slice(-MAX_STEPS);
    future.value = [];
    doc.value = { ...doc.value, ...patch };
  });
}

/** Changes the document and each remembered state alike: what the server found is no step. */
export function amend(patch: Partial<Doc>): void {
  const amended = (step: Step): Step => ({ ...step, doc: { ...step.doc, ...patch } });
  batch(() => {
    doc.value = { ...doc.value, ...patch };
    past.value = past.value.map(amended);
    future.value = future.value.map(amended);
  });
}

function moved(from: typeof past, to: typeof past): string | null {
  const step = from.value.at(-1);
  if (!step) return null;
  mergeKey = "";
  batch(() => {
    from.value = from.value.slice(0, -1);
    to.value = [...to.value, { label: step.label, doc: doc.value }];
    doc.value = step.doc;
  });
  return step.label;
}

export const undo = (): string | null => moved(past, future);
export const redo = (): string | null => moved(future, past);

/** Begins with nothing; takes on the server stay until they are too old. */
export function startOver(patch: Partial<Doc>): void {
  batch(() => {
    past.value = [];
    future.value = [];
    pending.value = [];
    doc.value = { ...EMPTY, ...patch };
    begun.value = patch.media !== undefined || patch.duration_s !== undefined;
  });
}

function read(id: string): Kept | null {
  try {
    const found = JSON.parse(kept(PREFIX + id) ?? "null") as Kept | null;
    return found && { ...found, doc: { ...EMPTY, ...found.doc } };
  } catch {
    return null; // of an older version of the page
  }
}

function write(id: string): void {
  const now: Kept = {
    doc: doc.value,
    past: past.value.slice(-MAX_KEPT_STEPS),
    future: future.value.slice(-MAX_KEPT_STEPS),
    pending: pending.value,
    saved: Date.now(),
  };
  keep(PREFIX + id, JSON.stringify(now));
}

/** True and held until the tab closes, or false where another tab holds it. */
function locked(id: string): Promise<boolean> {
  if (!("locks" in navigator)) return Promise.resolve(true); // no secure context
  return new Promise((resolve) => {
    void navigator.locks.request(PREFIX + id, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock ? new Promise(() => {}) : undefined;
    });
  });
}

/** Id of this tab's session, which a reload keeps. */
function tabSession(id?: string): string | null {
  try {
    if (id) sessionStorage.setItem(PREFIX, id);
    return sessionStorage.getItem(PREFIX);
  } catch {
    return null;
  }
}

function keptIds(): string[] {
  let ids: string[] = [];
  try {
    ids = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  } catch {
    return []; // forbidden
  }
  const saved = (key: string): number => read(key.slice(PREFIX.length))?.saved ?? 0;
  return ids.sort((a, b) => saved(b) - saved(a)).map((key) => key.slice(PREFIX.length));
}

const MAX_SESSIONS = 8;

/**
 * Takes up this tab's session, or the newest that no tab holds after the browser was closed.
 *
 * A duplicated tab finds its session locked: it goes on with a copy under an id of its own.
 */
export async function restore(): Promise<void> {
  const own = tabSession();
  let last: Kept | null = null;
  let id: string | null = null;
  for (const candidate of own ? [own] : keptIds().slice(0, 3)) {
    const found = read(candidate);
    if (await locked(candidate)) id = candidate;
    if (found && (id || own)) last = found;
    if (id) break;
  }
  if (id === null) {
    id = Math.random().toString(36).slice(2, 10);
    await locked(id);
  }
  const session = id;
  tabSession(session);
  for (const old of keptIds().slice(MAX_SESSIONS)) localStorage.removeItem(PREFIX + old);
  if (last) {
    const found = last;
    batch(() => {
      doc.value = found.doc;
      past.value = found.past;
      future.value = found.future;
      pending.value = found.pending;
      begun.value = found.doc.media !== null || found.doc.takes.length > 0 || found.past.length > 0;
    });
  }
  let timer = 0;
  effect(() => {
    void [doc.value, past.value, future.value, pending.value];
    clearTimeout(timer);
    timer = window.setTimeout(() => write(session), 150);
  });
  addEventListener("pagehide", () => write(session));
}
