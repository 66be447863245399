/** Stems of the chosen take: mute, solo, gain and pan of each, beside its waveform. */
import type { JSX } from "preact";
import type { Stem, StemMix } from "../api";
import { busyWith, remakeStem } from "../jobs";
import { NEUTRAL, solo } from "../player";
import { change, doc, type Cue } from "../session";

function set(take: string, stem: string, patch: Partial<StemMix>, merge = ""): void {
  const mixes = doc.peek().mixes;
  const mix = { ...NEUTRAL, ...mixes[take]?.[stem], ...patch };
  change("mix changed", { mixes: { ...mixes, [take]: { ...mixes[take], [stem]: mix } } }, merge);
}

function toggleSolo(stem: string): void {
  const next = new Set(solo.peek());
  if (!next.delete(stem)) next.add(stem);
  solo.value = next;
}

/** In the order in which their cues begin; sounds that no cue names stay behind them. */
export function byTime(stems: Stem[], cues: Cue[]): Stem[] {
  const begins = (stem: Stem): number =>
    Math.min(Infinity, ...cues.filter((cue) => cue.prompt.trim() === stem.text).map((cue) => cue.from_s));
  const ranked = stems.map((stem) => ({ stem, from_s: begins(stem) }));
  return ranked.sort((a, b) => (a.from_s < b.from_s ? -1 : Number(a.from_s > b.from_s))).map(({ stem }) => stem);
}

const side = (pan: number): string =>
  Math.abs(pan) < 0.01 ? "middle" : `${Math.round(Math.abs(pan) * 100)} % ${pan < 0 ? "left" : "right"}`;

/** The same in few letters: " L20", nothing in the middle. */
const place = (pan: number): string =>
  Math.abs(pan) < 0.01 ? "" : ` ${pan < 0 ? "L" : "R"}${Math.round(Math.abs(pan) * 100)}`;

export function StemHead(props: { take: string; stem: Stem }): JSX.Element {
  const { take, stem } = props;
  const mix = doc.value.mixes[take]?.[stem.name] ?? NEUTRAL;
  const alone = solo.value.has(stem.name);
  const gain = `${String(mix.gain_db).replace("-", "−")} dB`;
  return (
    <div class="stem-head" role="group" aria-label={`Stem ${stem.name}`}>
      <span class="stem-name" title={stem.text ?? stem.name}>
        {stem.anew ? (stem.text ?? stem.name) : `New part: ${stem.text ?? stem.name}`}
      </span>
      <button class="mini" disabled={!stem.anew || busyWith("stems")} aria-label={`Make ${stem.name} new`} title={stem.anew ? (busyWith("stems") ? "A stem is being made; this one can be made new after it" : "Make this sound new; the others stay") : "A part that was made new: select its range to do so again"} onClick={() => void remakeStem(take, stem.name)}>
        ↻
      </button>
      <button class="mini" aria-pressed={mix.mute} aria-label={`Mute ${stem.name}`} title="Mute" onClick={() => set(take, stem.name, { mute: !mix.mute })}>
        M
      </button>
      <button class="mini" aria-pressed={alone} aria-label={`Solo ${stem.name}`} title="Solo: only this is heard" onClick={() => toggleSolo(stem.name)}>
        S
      </button>
      <label class="stem-slider">
        <span aria-hidden="true">Gain {gain}</span>
        <input
          type="range"
          class="gain"
          min={-24}
          max={12}
          step={0.5}
          value={mix.gain_db}
          aria-label={`Gain of ${stem.name}`}
          aria-valuetext={`${mix.gain_db} dB`}
          title={`Gain ${mix.gain_db} dB (double-click: 0)`}
          onInput={(event) => set(take, stem.name, { gain_db: event.currentTarget.valueAsNumber }, `gain-${stem.name}`)}
          onDblClick={() => set(take, stem.name, { gain_db: 0 })}
        />
      </label>
      <label class="stem-slider">
        <span aria-hidden="true">Pan{place(mix.pan)}</span>
        <input
          type="range"
          class="pan"
          min={-1}
          max={1}
          step={0.05}
          value={mix.pan}
          aria-label={`Pan of ${stem.name}`}
          aria-valuetext={side(mix.pan)}
          title={`Pan ${side(mix.pan)} (double-click: middle)`}
          onInput={(event) => set(take, stem.name, { pan: event.currentTarget.valueAsNumber }, `pan-${stem.name}`)}
          onDblClick={() => set(take, stem.name, { pan: 0 })}
        />
      </label>
    </div>
  );
}
