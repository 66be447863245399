/** Everything on one time axis: frames, cues, takes, spectrogram, stems; range and playhead above. */
import { effect } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Take } from "../api";
import { busyWith, editRange, makeStems, model } from "../jobs";
import { addCue, choose, cueOverRange, removeTake } from "../keys";
import * as player from "../player";
import { change, currentTake, doc, duration, letter } from "../session";
import * as view from "../view";
import { clock } from "../view";
import { CUE_ROW_PX, cueRows, CueTrack } from "./CueTrack";
import { Ruler, Spectrogram, Strip, Wave } from "./lanes";
import { byTime, StemHead } from "./Stems";

const STRIP_PX = 54;
const WAVE_PX = 56;
const STEM_PX = 50;
const OWN_PX = 40;
const SPECTROGRAM_PX = 88;
const DRAG_PX = 4;
const MIN_RANGE_S = 0.03;

/** A row: its head stays at the left, its body lies on the time axis. */
interface Row {
  key: string;
  height: number;
  head: ComponentChildren;
  body: ComponentChildren;
  class?: string;
}

function TakeHead(props: { take: Take; index: number }): JSX.Element {
  const { take, index } = props;
  const active = doc.value.current === take.id;
  const name = letter(index);
  const parent = doc.value.takes.findIndex((other) => other.id === take.edited);
  return (
    <div class={`take-head ${active ? "is-active" : ""}`} onPointerEnter={() => player.prepare(take.sound)}>
      <button
        class="take-letter"
        aria-pressed={active}
        aria-label={`Take ${name}, seed ${take.seed}`}
        title={`Hear take ${name}${index < 9 ? ` (key ${index + 1})` : ""}`}
        onClick={() => choose(take.id)}
      >
        {name}
      </button>
      <span class="take-facts">
        <span title="Loudness of the whole take">{view.level(take.lufs, "LUFS")}</span>
        <span class="muted" title="True peak">
          {take.true_peak_db !== null && view.level(take.true_peak_db, "dBTP")}
          {parent >= 0 && `, from ${letter(parent)}`}
        </span>
      </span>
      {active && !take.stems.length && !take.edited && model.value?.jobs.includes("stems") && (
        <button class="mini" disabled={busyWith("stems")} aria-label={`Stems of take ${name}`} title="Make it again with each of its sounds by itself, to mute, move and export" onClick={() => void makeStems(take.id)}>
          ≡
        </button>
      )}
      <button class="icon quiet" aria-label={`Put take ${name} away`} title="Put away (can be undone)" onClick={() => removeTake(take.id)}>
        ×
      </button>
    </div>
  );
}

function rows(): Row[] {
  const d = doc.value;
  const axis_s = duration.value;
  const found: Row[] = [];
  void player.solo.value; // rows of stems that it silences are drawn again
  if (d.media?.kind === "video" && d.media.strip && d.media.duration_s) {
    const count = view.stripCount(d.media.duration_s);
    found.push({
      key: "strip",
      height: STRIP_PX,
      head: <span class="lane-name">Frames</span>,
      body: <Strip url={`${d.media.strip}?count=${count}&height=${STRIP_PX * 2}`} count={count} duration_s={d.media.duration_s} height={STRIP_PX} />,
    });
  }
  const placed = cueRows(d.cues, view.pixelsPerSecond.value);
  const cueHeight = (Math.max(0, ...placed.values()) + 1) * CUE_ROW_PX + 6;
  found.push({
    key: "cues",
    height: cueHeight,
    head: (
      <>
        <span class="lane-name">Cues</span>
        <button class="icon quiet" aria-label="Add a cue at this time" title="Cue at this time (C)" onClick={() => addCue(player.time_s.peek(), null)}>
          +
        </button>
      </>
    ),
    body: <CueTrack rows={placed} height={cueHeight} />,
    class: "row-cues",
  });
  if (d.media?.has_sound && d.media.peaks) {
    const active = d.current === "original";
    found.push({
      key: "original",
      height: OWN_PX,
      head: (
        <div class={`take-head ${active ? "is-active" : ""}`}>
          <button class="take-letter" aria-pressed={active} aria-label="The video's own sound" title="Hear the video's own sound (key 0)" onClick={() => choose("original")}>
            0
          </button>
          <span class="take-facts">
            <span>Own sound</span>
          </span>
        </div>
      ),
      body: <Wave url={d.media.peaks} duration_s={d.media.duration_s ?? axis_s} active={active} height={OWN_PX} />,
      class: "row-take",
    });
  }
  d.takes.forEach((take, index) => {
    const active = d.current === take.id;
    found.push({
      key: take.id,
      height: WAVE_PX,
      head: <TakeHead take={take} index={index} />,
      body: <Wave url={take.peaks} duration_s={take.duration_s} active={active} height={WAVE_PX} />,
      class: "row-take",
    });
    for (const stem of active ? byTime(take.stems, d.cues) : []) {
      found.push({
        key: `${take.id} ${stem.name}`,
        height: STEM_PX,
        head: <StemHead take={take.id} stem={stem} />,
        body: <Wave url={stem.peaks} duration_s={take.duration_s} active={false} height={STEM_PX} />,
        class: `row-stem ${player.mixOf(take, stem.name).mute ? "is-silent" : ""}`,
      });
    }
  });
  const take = currentTake.value;
  if (take)
    found.push({
      key: "spectrogram",
      height: SPECTROGRAM_PX,
      head: <span class="lane-name">Spectrogram</span>,
      body: <Spectrogram url={`${take.spectrogram}?width=2048&height=${SPECTROGRAM_PX * 2}`} duration_s={take.duration_s} height={SPECTROGRAM_PX} />,
    });
  return found;
}

/** The playhead moves sixty times a second: past the components, straight into its style. */
function Playhead(): JSX.Element {
  const ref = useRef<HTMLDivElement>(null);
  useEffect(
    () =>
      effect(() => {
        const x = player.time_s.value * view.pixelsPerSecond.value;
        if (ref.current) ref.current.style.transform = `translateX(${x}px)`;
        if (player.playing.peek()) view.reveal(player.time_s.peek());
      }),
    [],
  );
  return <div class="playhead" ref={ref} aria-hidden="true" />;
}

function dragEdge(event: PointerEvent, edge: 0 | 1): void {
  event.stopPropagation();
  const range = doc.peek().range;
  if (!range) return;
  const target = event.currentTarget as HTMLElement;
  target.setPointerCapture(event.pointerId);
  const move = (next: PointerEvent): void => {
    const at_s = range[edge] + (next.clientX - event.clientX) / view.pixelsPerSecond.peek();
    const changed: [number, number] =
      edge === 0
        ? [Math.max(0, Math.min(at_s, range[1] - MIN_RANGE_S)), range[1]]
        : [range[0], Math.min(duration.peek(), Math.max(at_s, range[0] + MIN_RANGE_S))];
    change("range changed", { range: changed }, "range-edge");
  };
  const end = (): void => {
    target.removeEventListener("pointermove", move);
    target.removeEventListener("pointerup", end);
  };
  target.addEventListener("pointermove", move);
  target.addEventListener("pointerup", end);
}

function RangeShade(): JSX.Element | null {
  const range = doc.value.range;
  if (!range) return null;
  const perSecond = view.pixelsPerSecond.value;
  return (
    <div class="range" style={{ left: `${range[0] * perSecond}px`, width: `${(range[1] - range[0]) * perSecond}px` }} aria-hidden="true">
      <span class="range-edge range-from" onPointerDown={(event) => dragEdge(event, 0)} />
      <span class="range-edge range-to" onPointerDown={(event) => dragEdge(event, 1)} />
    </div>
  );
}

/** A press on the axis goes to that time; a drag over a sound selects a range of it. */
function onAxis(event: PointerEvent): void {
  if (event.button !== 0) return;
  const content = event.currentTarget as HTMLElement;
  const row = (event.target as HTMLElement).closest<HTMLElement>("[data-row]");
  const scrub = !row?.classList.contains("row-take") && !row?.classList.contains("row-stem");
  const at = (next: PointerEvent): number =>
    Math.min(Math.max((next.clientX - content.getBoundingClientRect().left) / view.pixelsPerSecond.peek(), 0), duration.peek());
  const start_s = at(event);
  let dragged = false;
  if (event.pointerType === "touch") {
    content.addEventListener("click", (click) => player.seek(at(click as PointerEvent)), { once: true });
    return;
  }
  content.setPointerCapture(event.pointerId);
  if (scrub) player.seek(start_s);
  const move = (next: PointerEvent): void => {
    dragged ||= Math.abs(next.clientX - event.clientX) >= DRAG_PX;
    if (!dragged) return;
    if (scrub) player.seek(at(next));
    else {
      const range: [number, number] = [Math.min(start_s, at(next)), Math.max(start_s, at(next))];
      if (range[1] - range[0] >= MIN_RANGE_S) change("range chosen", { range }, `range-${event.timeStamp}`);
    }
  };
  const end = (): void => {
    content.removeEventListener("pointermove", move);
    content.removeEventListener("pointerup", end);
    content.removeEventListener("pointercancel", end);
    if (dragged) return;
    const key = row?.dataset["row"];
    if (key && (key === "original" || doc.peek().takes.some((take) => take.id === key))) choose(key);
    player.seek(start_s);
  };
  content.addEventListener("pointermove", move);
  content.addEventListener("pointerup", end);
  content.addEventListener("pointercancel", end);
}

function onWheel(event: WheelEvent): void {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
  view.zoomBy(Math.exp(-event.deltaY * 0.004), event.clientX - box.left);
}

function TimeField(props: { edge: 0 | 1; label: string }): JSX.Element {
  const range = doc.value.range!;
  const set = (text: string): void => {
    const at_s = view.parsed(text);
    const next: [number, number] = props.edge === 0 ? [at_s ?? 0, range[1]] : [range[0], at_s ?? 0];
    if (at_s === null || next[0] < 0 || next[1] > duration.peek() + 5 || next[1] - next[0] < MIN_RANGE_S) return;
    change("range changed", { range: next });
  };
  return (
    <input
      class="time-field"
      aria-label={props.label}
      value={clock(range[props.edge])}
      onChange={(event) => set(event.currentTarget.value)}
      key={range[props.edge]}
    />
  );
}

function RangeBar(): JSX.Element {
  const range = doc.value.range;
  const take = currentTake.value;
  const name = take ? letter(doc.value.takes.indexOf(take)) : "";
  const own = doc.value.current === "original";
  if (!range) return <span class="muted range-hint">Drag over a sound to select a part of it.</span>;
  return (
    <div class="range-bar" role="group" aria-label="Selected range">
      <TimeField edge={0} label="Range begins" />
      <span aria-hidden="true">–</span>
      <TimeField edge={1} label="Range ends" />
      <button class="primary" disabled={(!take && !own) || busyWith("edit")} onClick={() => void editRange()} title="The rest stays sample for sample (R)">
        Make new{name && ` in ${name}`}
      </button>
      <button onClick={cueOverRange} title="Cue over the range (Shift C)">
        Cue here
      </button>
      {(take?.stems.length ?? 0) > 0 && <span class="muted">The new part becomes a stem of its own.</span>}
      <button class="icon quiet" aria-label="No range" title="No range (Esc)" onClick={() => change("range let go", { range: null })}>
        ×
      </button>
    </div>
  );
}

export function Timeline(): JSX.Element {
  const scroller = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = scroller.current!;
    view.setScroller(element);
    const observer = new ResizeObserver(() => (view.width.value = Math.max(50, element.clientWidth)));
    observer.observe(element);
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => {
      observer.disconnect();
      view.setScroller(null);
    };
  }, []);
  const all = rows();
  return (
    <section class="timeline" aria-label="Time axis">
      <div class="timeline-bar">
        <RangeBar />
        <span class="spacer" />
        <button class="wide-only" aria-pressed={view.tall.value} title="Quiet parts drawn taller: waveforms by level (W)" onClick={() => (view.tall.value = !view.tall.value)}>
          dB
        </button>
        <div class="button-group" role="group" aria-label="Zoom">
          <button class="icon" aria-label="Zoom out" title="Zoom out (−)" onClick={() => view.zoomBy(1 / 1.5)}>
            −
          </button>
          <button title="See all of it (F)" onClick={view.zoomToFit}>
            Fit
          </button>
          <button class="icon" aria-label="Zoom in" title="Zoom in (+)" onClick={() => view.zoomBy(1.5)}>
            +
          </button>
        </div>
      </div>
      <div class="timeline-body">
        <div class="heads">
          <div class="head head-ruler" />
          {all.map((row) => (
            <div key={row.key} class={`head ${row.class ?? ""}`} style={{ height: `${row.height}px` }}>
              {row.head}
            </div>
          ))}
        </div>
        <div
          class="scroller"
          ref={scroller}
          tabIndex={0}
          role="region"
          aria-label="Waveforms, scroll sideways when zoomed in"
          onScroll={(event) => (view.scrolled.value = event.currentTarget.scrollLeft)}
        >
          <div class="content" style={{ width: `${view.contentWidth.value}px` }} onPointerDown={onAxis}>
            <div class="row row-ruler" data-row="ruler">
              <Ruler />
            </div>
            {all.map((row) => (
              <div key={row.key} class={`row ${row.class ?? ""}`} data-row={row.key} style={{ height: `${row.height}px` }}>
                {row.body}
              </div>
            ))}
            <RangeShade />
            <Playhead />
          </div>
        </div>
      </div>
    </section>
  );
}
