/** Dialogs: export, and the list of keys. */
import { useSignal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { exportTake, model } from "../jobs";
import { dialog, KEYS } from "../keys";
import { mixOf } from "../player";
import { currentTake, doc, letter } from "../session";
import { byTime } from "./Stems";

function Dialog(props: { title: string; class?: string; children: ComponentChildren }): JSX.Element {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    ref.current?.showModal();
    ref.current?.querySelector<HTMLElement>("select")?.focus();
  }, []);
  const close = (): void => {
    dialog.value = null;
  };
  return (
    <dialog ref={ref} class={props.class} aria-labelledby="dialog-title" onClose={close} onClick={(event) => event.target === ref.current && close()}>
      <div class="dialog-head">
        <h2 id="dialog-title">{props.title}</h2>
        <button class="icon quiet" aria-label="Close" onClick={close}>
          ×
        </button>
      </div>
      {props.children}
    </dialog>
  );
}

const GROUPS = ["Listen", "Time", "Sound", "Page"] as const;

export function Help(): JSX.Element {
  return (
    <Dialog title="Keys" class="help">
      <div class="help-groups">
        {GROUPS.map((group) => (
          <div key={group}>
            <h3>{group}</h3>
            <dl>
              {KEYS.filter((key) => key.group === group && key.does).map((key) => (
                <div key={key.shown}>
                  <dt>
                    <kbd>{key.shown}</kbd>
                  </dt>
                  <dd>{key.does}</dd>
                </div>
              ))}
            </dl>
          </div>
        ))}
      </div>
      <p class="muted">
        A cue that has the focus: ← → move it, Alt ← → moves its end, Enter edits its words. On Apple keyboards Ctrl is Command.
      </p>
    </Dialog>
  );
}

const VIDEO_FORMATS = ["mp4", "mov", "mkv", "webm"];
const FORMAT_NAMES: Record<string, string> = {
  mp4: "MP4: plays everywhere",
  mov: "MOV: uncompressed sound, for editors",
  mkv: "MKV",
  webm: "WebM",
  wav: "WAV",
  flac: "FLAC: lossless, smaller",
  mp3: "MP3",
  opus: "Opus",
  ogg: "Ogg Vorbis",
  m4a: "M4A (AAC)",
  zip: "ZIP: take, stems, timeline, for editors",
};
const DESTINATIONS: [string, string][] = [
  ["", "as it is"],
  ["youtube", "YouTube (−14 LUFS)"],
  ["podcast", "podcast (−16 LUFS)"],
  ["broadcast", "broadcast (−23 LUFS)"],
];

export function Export(): JSX.Element | null {
  const take = currentTake.value ?? doc.value.takes[0];
  const { media } = doc.value;
  const hasVideo = media?.kind === "video";
  const known = model.value?.formats ?? [...VIDEO_FORMATS, "wav", "flac", "mp3"];
  const formats = known.filter((format) => hasVideo || !VIDEO_FORMATS.includes(format));
  const format = useSignal(formats[0] ?? "wav");
  const destination = useSignal("");
  const keepAudio = useSignal(false);
  const mix_db = useSignal(0);
  const bits = useSignal("");
  const reencode = useSignal(false);
  if (!take) return null;
  const name = letter(doc.value.takes.indexOf(take));
  const packed = format.value === "zip"; // the take as it was made, for an editor

  // WebM takes few pictures as they are.
  const choose = (next: string): void => {
    format.value = next;
    reencode.value = next === "webm" && !media?.name.endsWith(".webm");
  };
  const send = (event: Event): void => {
    event.preventDefault();
    const mix = Object.fromEntries(take.stems.map(({ name }) => [name, mixOf(take, name)]));
    void exportTake(take.id, {
      format: format.value,
      ...(destination.value && !packed && { for: destination.value }),
      ...(keepAudio.value && !packed && { keep_audio: true, mix_db: mix_db.value }),
      ...(bits.value && ["wav", "flac", "mov"].includes(format.value) && { bits: Number(bits.value) }),
      ...(reencode.value && VIDEO_FORMATS.includes(format.value) && { reencode: true }),
      ...(take.stems.length && { mix }),
    });
    dialog.value = null;
  };

  return (
    <Dialog title={`Export take ${name}`} class="export">
      <form onSubmit={send}>
        <label class="stacked">
          <span>File</span>
          <select value={format.value} onChange={(event) => choose(event.currentTarget.value)}>
            {formats.map((one) => (
              <option key={one} value={one}>
                {FORMAT_NAMES[one] ?? one}
              </option>
            ))}
          </select>
        </label>
        {!packed && (
          <label class="stacked">
            <span>Loudness for</span>
            <select value={destination.value} onChange={(event) => (destination.value = event.currentTarget.value)}>
              {DESTINATIONS.map(([value, text]) => (
                <option key={value} value={value}>
                  {text}
                </option>
              ))}
            </select>
          </label>
        )}
        {["wav", "flac", "mov"].includes(format.value) && (
          <label class="stacked">
            <span>Bits a sample</span>
            <select value={bits.value} onChange={(event) => (bits.value = event.currentTarget.value)}>
              <option value="">the format's usual</option>
              <option value="16">16</option>
              <option value="24">24</option>
              {format.value !== "flac" && <option value="32">32 (float)</option>}
            </select>
          </label>
        )}
        {media?.has_sound && !packed && (
          <>
            <label class="check">
              <input type="checkbox" checked={keepAudio.value} onChange={(event) => (keepAudio.value = event.currentTarget.checked)} />
              <span>Keep the video's own sound under it</span>
            </label>
            {keepAudio.value && (
              <label class="stacked">
                <span>Gain of the new sound: {mix_db.value} dB</span>
                <input type="range" min={-30} max={20} step={1} value={mix_db.value} onInput={(event) => (mix_db.value = event.currentTarget.valueAsNumber)} />
              </label>
            )}
          </>
        )}
        {VIDEO_FORMATS.includes(format.value) && (
          <label class="check">
            <input type="checkbox" checked={reencode.value} onChange={(event) => (reencode.value = event.currentTarget.checked)} />
            <span>Encode the picture again (slower; some formats need it)</span>
          </label>
        )}
        {packed && !take.stems.length && <p class="muted">Take {name} has no stems: the file has none either.</p>}
        {take.stems.length > 0 && (
          <>
            <p class="muted">With gain, pan, mute and solo of its {take.stems.length} stems as they are heard now.</p>
            <div>
              <p class="muted">Each stem as it was made, in 32-bit floats; together they are the mix. The ZIP has all of them:</p>
              <ul class="stem-links">
                {byTime(take.stems, doc.value.cues).map((stem) => (
                  <li key={stem.name}>
                    <a class="button" href={stem.sound} download={`${stem.name}.wav`}>
                      {stem.name}.wav
                    </a>
                  </li>
                ))}
              </ul>
            </div>
          </>
        )}
        <div class="dialog-foot">
          <button type="button" onClick={() => (dialog.value = null)}>
            Cancel
          </button>
          <button class="primary" type="submit">
            Export
          </button>
        </div>
      </form>
    </Dialog>
  );
}
