/** Cues on the time axis: drag over an empty place to add one, drag it or its ends to move them. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { addCue, changeCue, chosenCue, cueToType, removeCue } from "../keys";
import { doc, duration, type Cue } from "../session";
import { clock, pixelsPerSecond } from "../view";

export const CUE_ROW_PX = 26;
const MIN_SPAN_S = 0.05;
/** Room for words beside a cue, at most as in style.css. */
const WORDS_PX = 120;
/** A span that is narrower has its words beside it, as a moment has. */
const NARROW_PX = 70;
const DRAG_PX = 4;

/** Where the words of a cue stand; near the end before it, or the time axis would grow by them. */
function wordsOf(cue: Cue, perSecond: number): "inside" | "after" | "before" {
  const end_s = cue.to_s ?? cue.from_s;
  if (cue.to_s !== null && (cue.to_s - cue.from_s) * perSecond >= NARROW_PX) return "inside";
  return (duration.value - end_s) * perSecond < WORDS_PX ? "before" : "after";
}

/** Rows so that no two cues overlap, in the order of their starts. */
export function cueRows(cues: Cue[], perSecond: number): Map<string, number> {
  const ends: number[] = [];
  const rows = new Map<string, number>();
  for (const cue of [...cues].sort((a, b) => a.from_s - b.from_s)) {
    const words = wordsOf(cue, perSecond);
    const room_s = WORDS_PX / perSecond;
    const begin_s = cue.from_s - (words === "before" ? room_s : 0);
    let row = ends.findIndex((end) => end <= begin_s);
    if (row < 0) row = ends.length;
    ends[row] = (cue.to_s ?? cue.from_s) + (words === "after" ? room_s : 0);
    rows.set(cue.id, row);
  }
  return rows;
}

const limited = (at_s: number): number => Math.min(Math.max(at_s, 0), duration.peek());
const rounded = (at_s: number): number => Math.round(limited(at_s) * 100) / 100;

type Grip = "move" | "from" | "to";

function movedBy(cue: Cue, grip: Grip, by_s: number): Partial<Cue> {
  if (cue.to_s === null) return { from_s: rounded(cue.from_s + by_s) };
  if (grip === "from") return { from_s: rounded(Math.min(cue.from_s + by_s, cue.to_s - MIN_SPAN_S)) };
  if (grip === "to") return { to_s: rounded(Math.max(cue.to_s + by_s, cue.from_s + MIN_SPAN_S)) };
  const length = cue.to_s - cue.from_s;
  const from_s = Math.min(Math.max(cue.from_s + by_s, 0), duration.peek() - length);
  return { from_s: rounded(from_s), to_s: rounded(from_s + length) };
}

function drag(event: PointerEvent, cue: Cue, grip: Grip): void {
  event.stopPropagation();
  if (event.button !== 0) return;
  const target = event.currentTarget as HTMLElement;
  target.setPointerCapture(event.pointerId);
  chosenCue.value = cue.id;
  const merge = `drag-${Date.now()}`;
  const move = (next: PointerEvent): void => {
    const by_s = (next.clientX - event.clientX) / pixelsPerSecond.peek();
    if (Math.abs(next.clientX - event.clientX) >= 2) changeCue(cue.id, movedBy(cue, grip, by_s), merge);
  };
  const end = (): void => {
    target.removeEventListener("pointermove", move);
    target.removeEventListener("pointerup", end);
    target.removeEventListener("pointercancel", end);
  };
  target.addEventListener("pointermove", move);
  target.addEventListener("pointerup", end);
  target.addEventListener("pointercancel", end);
}

export const spoken = (cue: Cue): string =>
  `${cue.prompt || "cue without words"}, ${cue.to_s === null ? `at ${clock(cue.from_s)}` : `from ${clock(cue.from_s)} to ${clock(cue.to_s)}`}`;

function onCueKey(event: KeyboardEvent, cue: Cue): void {
  const by_s = event.shiftKey ? 0.5 : 0.05;
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const grip: Grip = event.altKey ? "to" : "move";
    changeCue(cue.id, movedBy(cue, grip, event.key === "ArrowLeft" ? -by_s : by_s), `keys-${grip}`);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    removeCue(cue.id);
  } else if (event.key === "Enter") {
    cueToType.value = cue.id;
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
}

function Block(props: { cue: Cue; row: number }): JSX.Element {
  const { cue } = props;
  const perSecond = pixelsPerSecond.value;
  const point = cue.to_s === null;
  const words = wordsOf(cue, perSecond);
  return (
    <div
      class={`cue ${point ? "cue-point" : ""} words-${words} ${chosenCue.value === cue.id ? "is-chosen" : ""}`}
      style={{
        left: `${cue.from_s * perSecond}px`,
        top: `${props.row * CUE_ROW_PX + 3}px`,
        width: point ? "auto" : `${Math.max(10, (cue.to_s! - cue.from_s) * perSecond)}px`,
      }}
      role="button"
      tabIndex={0}
      aria-label={`Cue: ${spoken(cue)}. Arrow keys move it, Alt and arrow keys move its end, Enter edits its words.`}
      title={spoken(cue)}
      data-cue={cue.id}
      onPointerDown={(event) => drag(event, cue, "move")}
      onDblClick={() => (cueToType.value = cue.id)}
      onFocus={() => (chosenCue.value = cue.id)}
      onKeyDown={(event) => onCueKey(event, cue)}
    >
      {!point && <span class="grip grip-from" onPointerDown={(event) => drag(event, cue, "from")} />}
      <span class="cue-text">{cue.prompt || "…"}</span>
      {!point && <span class="grip grip-to" onPointerDown={(event) => drag(event, cue, "to")} />}
    </div>
  );
}

export function CueTrack(props: { rows: Map<string, number>; height: number }): JSX.Element {
  const drawn = useSignal<[number, number] | null>(null);

  const begin = (event: PointerEvent): void => {
    if (event.button !== 0 || event.pointerType === "touch") return;
    event.stopPropagation();
    const lane = event.currentTarget as HTMLElement;
    const at = (next: PointerEvent): number =>
      limited((next.clientX - lane.getBoundingClientRect().left) / pixelsPerSecond.peek());
    const start_s = at(event);
    lane.setPointerCapture(event.pointerId);
    const move = (next: PointerEvent): void => {
      if (drawn.value === null && Math.abs(next.clientX - event.clientX) < DRAG_PX) return;
      drawn.value = [Math.min(start_s, at(next)), Math.max(start_s, at(next))];
    };
    const end = (): void => {
      lane.removeEventListener("pointermove", move);
      lane.removeEventListener("pointerup", end);
      const span = drawn.value;
      drawn.value = null;
      if (span && span[1] - span[0] >= MIN_SPAN_S) addCue(rounded(span[0]), rounded(span[1]));
      else chosenCue.value = null;
    };
    lane.addEventListener("pointermove", move);
    lane.addEventListener("pointerup", end);
  };
  const addPoint = (event: MouseEvent): void => {
    if (event.target !== event.currentTarget) return;
    const left = (event.currentTarget as HTMLElement).getBoundingClientRect().left;
    addCue(rounded((event.clientX - left) / pixelsPerSecond.peek()), null);
  };

  return (
    <div
      class="cue-track"
      style={{ height: `${props.height}px` }}
      role="group"
      aria-label="Cues"
      onPointerDown={begin}
      onDblClick={addPoint}
    >
      {doc.value.cues.map((cue) => (
        <Block key={cue.id} cue={cue} row={props.rows.get(cue.id) ?? 0} />
      ))}
      {drawn.value && (
        <div
          class="cue cue-drawn"
          style={{
            left: `${drawn.value[0] * pixelsPerSecond.value}px`,
            width: `${(drawn.value[1] - drawn.value[0]) * pixelsPerSecond.value}px`,
            top: "3px",
          }}
        />
      )}
      {!doc.value.cues.length && !drawn.value && (
        <span class="hint">Drag here to say what is heard, and when. Double-click for a moment.</span>
      )}
    </div>
  );
}
