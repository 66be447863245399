/** What is to be heard: recognised things, prompt, cues, settings, and the work that makes it. */
import type { JSX } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { noted, type Job, type Take } from "../api";
import * as jobs from "../jobs";
import { addCue, changeCue, chosenCue, cueToType, removeCue } from "../keys";
import { seek, time_s } from "../player";
import { change, currentTake, doc, duration, letter, type Cue } from "../session";
import { clock, level, parsed, timeLeft } from "../view";

function Chips(): JSX.Element | null {
  const { media, seen, seenOff } = doc.value;
  if (!media || media.kind === "sound") return null;
  const looking = jobs.busyWith("see");
  const sounding = [...new Map(seen.map((thing) => [thing.name, thing])).values()].filter((thing) => thing.sounding);
  const silent = seen.filter((thing) => !thing.sounding);
  const toggle = (name: string): void => {
    const off = seenOff.includes(name) ? seenOff.filter((other) => other !== name) : [...seenOff, name];
    change(`${name} switched ${seenOff.includes(name) ? "on" : "off"}`, { seenOff: off });
  };
  return (
    <div class="field">
      <h2>Seen in the picture</h2>
      {looking ? (
        <p class="muted" role="status">
          Looking at the video …
        </p>
      ) : (
        <div class="chips" role="group" aria-label="Recognised things that make sound">
          {sounding.map((thing) => (
            <button
              key={thing.name}
              class="chip"
              aria-pressed={!seenOff.includes(thing.name)}
              title={`${thing.sound ?? thing.name}${thing.spans[0] ? `, ${clock(thing.spans[0][0], 1)} to ${clock(thing.spans[0][1], 1)}` : ""}. Switched off, it makes no sound.`}
              onClick={() => toggle(thing.name)}
            >
              {thing.name}
            </button>
          ))}
          {!sounding.length && (
            <span class="muted">
              {seen.length ? "The model knows no sound of what it recognised" : "The model recognised nothing in the pictures"}; say in words what should be heard.
            </span>
          )}
          {silent.map((thing) => (
            <span key={thing.name} class="chip-silent" title={thing.why_silent ?? ""}>
              {thing.name}
              <span class="visually-hidden"> makes no sound: {thing.why_silent}</span>
            </span>
          ))}
        </div>
      )}
    </div>
  );
}

/** A text area as tall as its text. */
function Words(props: { label: string; value: string; placeholder: string; rows: number; onInput: (text: string) => void }): JSX.Element {
  return (
    <textarea
      aria-label={props.label}
      placeholder={props.placeholder}
      rows={props.rows}
      value={props.value}
      maxLength={1000}
      onInput={(event) => props.onInput(event.currentTarget.value)}
    />
  );
}

function CueTime(props: { value: number | null; label: string; placeholder: string; set: (at_s: number | null) => void }): JSX.Element {
  return (
    <input
      class="time-field"
      aria-label={props.label}
      value={props.value === null ? "" : clock(props.value)}
      placeholder={props.placeholder}
      key={props.value}
      onChange={(event) => {
        const text = event.currentTarget.value;
        const at_s = parsed(text);
        if (at_s !== null || !text.trim()) props.set(at_s);
        else event.currentTarget.value = props.value === null ? "" : clock(props.value);
      }}
    />
  );
}

function CueRow(props: { cue: Cue; number: number }): JSX.Element {
  const { cue } = props;
  const words = useRef<HTMLInputElement>(null);
  // At once, or the first letters that are typed would be taken for keys of the page.
  useLayoutEffect(() => {
    if (cueToType.value !== cue.id) return;
    cueToType.value = null;
    words.current?.focus();
    words.current?.scrollIntoView({ block: "nearest" });
  }, [cueToType.value]);
  const name = `Cue ${props.number}`;
  return (
    <li class={`cue-row ${chosenCue.value === cue.id ? "is-chosen" : ""}`} onFocusCapture={() => (chosenCue.value = cue.id)}>
      <input
        class="cue-words"
        ref={words}
        aria-label={`${name}: what is heard`}
        placeholder="what is heard"
        list="kinds"
        value={cue.prompt}
        onInput={(event) => changeCue(cue.id, { prompt: event.currentTarget.value }, "words")}
      />
      <CueTime
        label={`${name} begins`}
        placeholder="from"
        value={cue.from_s}
        set={(from_s) => {
          if (from_s === null || from_s > duration.peek()) return;
          changeCue(cue.id, { from_s, ...(cue.to_s !== null && cue.to_s <= from_s && { to_s: null }) }, "from");
        }}
      />
      <CueTime
        label={`${name} ends (empty: a moment)`}
        placeholder="moment"
        value={cue.to_s}
        set={(to_s) => changeCue(cue.id, { to_s: to_s !== null && to_s > cue.from_s ? Math.min(to_s, duration.peek()) : null }, "to")}
      />
      <button class="icon quiet" aria-label={`Go to ${name}`} title="Go to it" onClick={() => seek(cue.from_s)}>
        ›
      </button>
      <button class="icon quiet" aria-label={`Remove ${name}`} title="Remove (Del)" onClick={() => removeCue(cue.id)}>
        ×
      </button>
    </li>
  );
}

function Cues(): JSX.Element {
  const cues = [...doc.value.cues].sort((a, b) => a.from_s - b.from_s);
  return (
    <div class="field">
      <div class="field-head">
        <h2>Cues</h2>
        <button class="quiet" title="Cue at this time (C)" onClick={() => addCue(Math.round(time_s.peek() * 100) / 100, null)}>
          + at this time
        </button>
      </div>
      {cues.length ? (
        <ol class="cue-list">
          {cues.map((cue, index) => (
            <CueRow key={cue.id} cue={cue} number={index + 1} />
          ))}
        </ol>
      ) : (
        <p class="muted">A cue says what is heard, and when: drag on the track below, or press C.</p>
      )}
    </div>
  );
}

function NumberField(props: { label: string; value: number | null; min: number; max: number; placeholder?: string; step?: number; set: (value: number | null) => void }): JSX.Element {
  return (
    <label class="number">
      <span>{props.label}</span>
      <input
        type="number"
        min={props.min}
        max={props.max}
        step={props.step ?? 1}
        placeholder={props.placeholder}
        value={props.value ?? ""}
        onChange={(event) => {
          const { valueAsNumber, validity } = event.currentTarget;
          if (validity.valid) props.set(Number.isNaN(valueAsNumber) ? null : valueAsNumber);
          else event.currentTarget.reportValidity();
        }}
      />
    </label>
  );
}

function Settings(): JSX.Element {
  const d = doc.value;
  const model = jobs.model.value;
  return (
    <details class="settings">
      <summary>More settings</summary>
      <label class="stacked">
        <span>Not to be heard</span>
        <input value={d.negative} placeholder="speech, music" onInput={(event) => change("words changed", { negative: event.currentTarget.value }, "negative")} />
      </label>
      <div class="number-row">
        {(!d.media || d.media.kind === "picture") && (
          <NumberField
            label="Seconds"
            value={d.duration_s}
            min={0.5}
            max={model?.limits.duration_s ?? 600}
            step={0.5}
            set={(value) => value !== null && change("length changed", { duration_s: value })}
          />
        )}
        <NumberField label="Seed" value={d.seed} min={0} max={4294967295} placeholder="new each time" set={(seed) => change("seed changed", { seed })} />
        <NumberField label="Steps" value={d.steps} min={1} max={200} placeholder={model?.steps ? String(model.steps) : "model's"} set={(steps) => change("steps changed", { steps })} />
      </div>
      <label class="check">
        <input type="checkbox" checked={d.ambience} onChange={(event) => change("background changed", { ambience: event.currentTarget.checked })} />
        <span>Quiet background of the place</span>
      </label>
      {model?.jobs.includes("stems") && (
        <label class="check">
          <input type="checkbox" checked={d.stems} onChange={(event) => change("stems changed", { stems: event.currentTarget.checked })} />
          <span>Each cue and each thing seen by itself (stems)</span>
        </label>
      )}
      {model && (
        <p class="muted">
          Model {model.name}
          {model.sample_rate_hz && `, ${model.sample_rate_hz / 1000} kHz`}.
        </p>
      )}
    </details>
  );
}

const NAMES: Record<Job["kind"], string> = {
  generate: "Making takes",
  edit: "Making the range new",
  see: "Looking at the video",
  stems: "Making stems",
  export: "Writing the file",
};

function JobRow(props: { job: Job }): JSX.Element {
  const { job } = props;
  const waiting = job.state === "waiting";
  const percent = Math.round((job.fraction ?? 0) * 100);
  const name = job.kind === "generate" && job.request["takes"] === 1 ? "Making a take" : NAMES[job.kind];
  const stage = waiting ? (job.position && job.position > 1 ? `waiting, ${job.position - 1} before it` : jobs.loading.value ? "the model is loading" : "waiting") : (job.stage ?? "");
  // The time first: what is cut where there is little room is the stage.
  const said = [waiting ? "" : timeLeft(job.seconds_left), stage].filter(Boolean).join(", ");
  // A bar that moves without a value is for work that has begun and can't say yet how far it is.
  const unknown = !waiting && percent === 0;
  return (
    <li class="job">
      <div class="job-line">
        <strong>{name}</strong>
        <span class="muted" title={said}>
          {said}
        </span>
        <button class="quiet" aria-label={`Stop: ${name}`} onClick={() => void jobs.cancel(job.id)}>
          Stop
        </button>
      </div>
      <progress max={100} {...(unknown ? {} : { value: percent })} aria-label={`${name}: ${waiting ? "waiting" : `${percent} %`}`} />
    </li>
  );
}

export function JobList(): JSX.Element | null {
  if (!jobs.running.value.length) return null;
  return (
    <ul class="jobs" aria-label="Work in progress">
      {jobs.running.value.map((job) => (
        <JobRow key={job.id} job={job} />
      ))}
    </ul>
  );
}

/** Without what is said of sounds that follow the picture where each sound was made of words. */
const notesOn = (take: Take): string[] =>
  take.stems.length && take.stems.every((stem) => stem.text)
    ? take.notes.filter((line) => !line.startsWith("nothing was recognised:"))
    : take.notes;

/** What was measured and said about the chosen take. */
function About(): JSX.Element | null {
  const take = currentTake.value;
  if (!take) return null;
  return (
    <details class="settings">
      <summary>About take {letter(doc.value.takes.indexOf(take))}</summary>
      <dl class="facts">
        <dt>Seed</dt>
        <dd>
          {take.seed}
          <button class="quiet" title="New takes begin with this seed" onClick={() => change("seed changed", { seed: take.seed })}>
            use again
          </button>
        </dd>
        <dt>Loudness</dt>
        <dd>{level(take.lufs, "LUFS")}</dd>
        <dt>True peak</dt>
        <dd>{take.true_peak_db === null ? "–" : level(take.true_peak_db, "dBTP")}</dd>
        <dt>Length</dt>
        <dd>{clock(take.duration_s)}</dd>
      </dl>
      {notesOn(take).map((line) => (
        <p key={line} class="muted">
          {noted(line)}
        </p>
      ))}
    </details>
  );
}

function Make(): JSX.Element {
  const { numTakes } = doc.value;
  const most = jobs.model.value?.limits.takes ?? 8;
  const set = (next: number): void => change("number of takes changed", { numTakes: Math.min(Math.max(next, 1), most) }, "takes");
  return (
    <div class="make">
      <button class="primary large" title="Ctrl Enter" onClick={() => void jobs.generate()}>
        Make {numTakes === 1 ? "a take" : `${numTakes} takes`}
      </button>
      <div class="button-group" role="group" aria-label="Number of takes">
        <button class="icon" aria-label="One take less" disabled={numTakes <= 1} onClick={() => set(numTakes - 1)}>
          −
        </button>
        <button class="icon" aria-label="One take more" disabled={numTakes >= most} onClick={() => set(numTakes + 1)}>
          +
        </button>
      </div>
    </div>
  );
}

export function Inspector(): JSX.Element {
  const d = doc.value;
  const kinds = jobs.model.value?.kinds ?? [];
  return (
    <section class="inspector" aria-label="What is to be heard">
      <div class="inspector-scroll">
        <Chips />
        <div class="field">
          <h2>In words</h2>
          <Words
            label="Prompt: what is to be heard"
            placeholder={d.media ? "What is to be heard beside what is seen (may stay empty)" : "a dog barks twice, then rain begins"}
            rows={2}
            value={d.prompt}
            onInput={(prompt) => change("prompt changed", { prompt }, "prompt")}
          />
        </div>
        <Cues />
        <Settings />
        <About />
      </div>
      <div class="inspector-foot">
        <JobList />
        <Make />
      </div>
      <datalist id="kinds">
        {kinds.map((kind) => (
          <option key={kind.name} value={kind.examples[0] ?? kind.name} />
        ))}
      </datalist>
    </section>
  );
}
