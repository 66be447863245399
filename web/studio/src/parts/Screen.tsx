/** The picture and what drives it: play, time, repeat, volume, level. */
import { effect, useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Media } from "../api";
import { choose, other, switchBack } from "../keys";
import * as player from "../player";
import { currentTake, doc, duration, letter } from "../session";
import { clock, level as written, stripCount } from "../view";

const FLOOR_DB = -60;
const fraction = (decibels: number): number => Math.min(Math.max(1 - decibels / FLOOR_DB, 0), 1);

/** Momentary loudness as a bar and a number, the sample peak as a line on it. */
function LevelMeter(): JSX.Element {
  const bar = useRef<HTMLSpanElement>(null);
  const peak = useRef<HTMLSpanElement>(null);
  const text = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    let held_db = FLOOR_DB;
    return effect(() => {
      void player.time_s.value;
      const level = player.level();
      held_db = Math.max(level?.peak_db ?? FLOOR_DB, held_db - 0.4, FLOOR_DB);
      if (!player.playing.value) held_db = FLOOR_DB;
      bar.current!.style.transform = `scaleX(${fraction(level?.momentary_lufs ?? FLOOR_DB)})`;
      peak.current!.style.transform = `translateX(${fraction(held_db) * 120}px)`;
      peak.current!.classList.toggle("is-over", held_db > -1);
      text.current!.textContent =
        level && level.momentary_lufs > FLOOR_DB ? written(level.momentary_lufs, "LUFS") : "– LUFS";
    });
  }, []);
  return (
    <div class="meter" title="Loudness of the last 400 ms (momentary, EBU R 128); the line is the sample peak" aria-hidden="true">
      <span class="meter-track">
        <span class="meter-bar" ref={bar} />
        <span class="meter-peak" ref={peak} />
      </span>
      <span class="meter-text" ref={text} />
    </div>
  );
}

function Clock(): JSX.Element {
  const ref = useRef<HTMLSpanElement>(null);
  useEffect(
    () =>
      effect(() => {
        if (ref.current) ref.current.textContent = clock(player.time_s.value);
      }),
    [],
  );
  return (
    <span class="clock">
      <span ref={ref} /> <span class="muted">/ {clock(duration.value)}</span>
    </span>
  );
}

/** Takes side by side where the time axis is too small to choose from: on a phone. */
function TakeSwitch(): JSX.Element | null {
  const d = doc.value;
  const own = d.media?.has_sound;
  if (d.takes.length + (own ? 1 : 0) < 2) return null;
  return (
    <div class="take-switch" role="group" aria-label="Takes">
      {own && (
        <button aria-pressed={d.current === "original"} onClick={() => choose("original")}>
          Own
        </button>
      )}
      {d.takes.map((take, index) => (
        <button key={take.id} aria-pressed={d.current === take.id} onClick={() => choose(take.id)}>
          {letter(index)}
        </button>
      ))}
    </div>
  );
}

/** The letter of a take; the film's own sound has its key. */
function short(id: string | null): string {
  const place = doc.value.takes.findIndex((take) => take.id === id);
  return place < 0 ? "0" : letter(place);
}

const STILL_PX = 200;

/** Frames of the server in place of a video that the browser does not play. */
function Stills(props: { media: Media }): JSX.Element | null {
  const { media } = props;
  const count = stripCount(media.duration_s ?? 1);
  const ref = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const strip = new Image();
    let shown = -1;
    const paint = (): void => {
      const canvas = ref.current;
      const index = Math.min(count - 1, Math.floor((player.time_s.value / (media.duration_s ?? 1)) * count));
      if (!canvas || !strip.complete || !strip.naturalWidth || index === shown) return;
      shown = index;
      const cell = strip.naturalWidth / count;
      canvas.width = cell;
      canvas.height = strip.naturalHeight;
      canvas.getContext("2d")?.drawImage(strip, -index * cell, 0);
    };
    strip.onload = paint;
    strip.src = `${media.strip}?count=${count}&height=${STILL_PX}`;
    return effect(paint);
  }, [media.id]);
  return <canvas class="picture" ref={ref} role="img" aria-label={media.name} />;
}

function Picture(): JSX.Element {
  const media = doc.value.media!;
  const failed = useSignal(false);
  const waiting = useSignal(true);
  useEffect(() => () => player.attach(null), [media.id]);
  if (media.kind === "picture")
    return <img class="picture" src={media.file} alt={media.name} />;
  if (media.kind === "sound")
    return (
      <>
        <audio ref={player.attach} src={media.file} preload="auto" />
        <p class="no-picture">{media.name}</p>
      </>
    );
  return (
    <>
      <video
        class="picture"
        ref={player.attach}
        src={media.proxy ?? media.file}
        preload="auto"
        playsInline
        disablePictureInPicture
        aria-label={media.name}
        onClick={player.toggle}
        onLoadedData={() => (waiting.value = false)}
        onSeeked={() => (waiting.value = false)}
        onError={() => {
          failed.value = true;
          waiting.value = false;
        }}
      />
      {waiting.value && !failed.value && <p class="no-picture">Fetching the picture …</p>}
      {failed.value && (
        <>
          <Stills media={media} />
          <p class="badge badge-low">This browser does not play the picture of this format: stills.</p>
        </>
      )}
    </>
  );
}

export function Screen(): JSX.Element {
  const take = currentTake.value;
  const playing = player.playing.value;
  const hasPicture = doc.value.media !== null;
  const shown = take ? `Take ${letter(doc.value.takes.indexOf(take))}` : doc.value.current === "original" ? "Own sound" : "";
  return (
    <section class={`screen ${hasPicture ? "" : "is-bare"}`} aria-label="Player">
      <div class="picture-box">
        {hasPicture ? <Picture key={doc.value.media!.id} /> : <p class="no-picture">Sound without a picture.</p>}
        {shown && <span class="badge">{shown}</span>}
        {player.loadingSound.value && <span class="badge badge-right">fetching sound …</span>}
      </div>
      <div class="transport">
        <button class="icon play" aria-label={playing ? "Pause" : "Play"} title="Space" onClick={player.toggle}>
          <svg viewBox="0 0 16 16" aria-hidden="true">
            {playing ? <path d="M4 2h3v12H4zM9 2h3v12H9z" /> : <path d="M4 2l9 6-9 6z" />}
          </svg>
        </button>
        <Clock />
        <button
          class="icon"
          aria-label="Repeat"
          aria-pressed={player.looping.value}
          title="Repeat the range, or everything (L)"
          onClick={() => (player.looping.value = !player.looping.value)}
        >
          <svg viewBox="0 0 16 16" aria-hidden="true" class="stroked">
            <path d="M3 8a5 4 0 0 1 5-4h5M11 2l2 2-2 2M13 8a5 4 0 0 1-5 4H3M5 14l-2-2 2-2" />
          </svg>
        </button>
        {doc.value.takes.length > 1 && (
          <button aria-label={`${short(doc.value.current)}⇄${short(other())}: back to the take heard before`} title="Back to the take heard before (X)" onClick={switchBack}>
            {short(doc.value.current)}⇄{short(other())}
          </button>
        )}
        <span class="spacer" />
        <LevelMeter />
        <label class="volume" title="Volume">
          <span class="visually-hidden">Volume</span>
          <input
            type="range"
            min={0}
            max={1}
            step={0.01}
            value={player.volume.value}
            onInput={(event) => (player.volume.value = event.currentTarget.valueAsNumber)}
          />
        </label>
      </div>
      <TakeSwitch />
    </section>
  );
}
