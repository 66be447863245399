/**
 * One clock for picture and sound. Takes and stems play from memory through the browser's audio
 * graph, so that changing the take while it plays has no gap; the picture follows that clock.
 */
import { effect, signal } from "@preact/signals";
import type { StemMix, Take } from "./api";
import { Meter, type Level } from "./loudness";
import { fail } from "./messages";
import { currentTake, doc, duration } from "./session";

export const time_s = signal(0);
export const playing = signal(false);
export const looping = signal(false);
export const volume = signal(1);
export const loadingSound = signal(false);
export const solo = signal<ReadonlySet<string>>(new Set());

const CROSSFADE_S = 0.015;
const MAX_BUFFERS = 16;
const MAX_DRIFT_S = 0.12;

interface Voice {
  url: string;
  stem: string | null;
  source: AudioBufferSourceNode;
  gain: GainNode;
  sides: [GainNode, GainNode];
}

let context: AudioContext | null = null;
let master: GainNode | null = null;
let meter: Meter | null = null;
let picture: HTMLMediaElement | null = null;
let voices: Voice[] = [];
let startedAt = 0;
let startedFrom_s = 0;
let frame = 0;
let generation = 0;
const buffers = new Map<string, Promise<AudioBuffer>>();

/** The video (or sound) that was dropped: it shows the time, and plays its own sound as "original". */
export function attach(element: HTMLMediaElement | null): void {
  picture = element;
  if (picture) {
    picture.currentTime = time_s.peek();
    listen();
  }
}

function graph(): AudioContext {
  if (context) return context;
  context = new AudioContext({ latencyHint: "interactive" });
  master = new GainNode(context, { gain: volume.peek() });
  master.connect(context.destination);
  meter = new Meter(context, master);
  return context;
}

/** Level of what sounds now, or null before anything did. */
export const level = (): Level | null => (playing.peek() && meter ? meter.read() : null);

function loaded(url: string): Promise<AudioBuffer> {
  let buffer = buffers.get(url);
  if (!buffer) {
    buffer = fetch(url).then(async (response) => {
      if (!response.ok) throw new Error("The server no longer has this sound: make it again.");
      return graph().decodeAudioData(await response.arrayBuffer());
    });
    buffer.catch(() => buffers.delete(url));
  } else {
    buffers.delete(url); // and put it last: the oldest go first
  }
  buffers.set(url, buffer);
  for (const old of [...buffers.keys()].slice(0, -MAX_BUFFERS)) buffers.delete(old);
  return buffer;
}

interface Wanted {
  url: string;
  stem: string | null;
}

function wanted(): Wanted[] {
  const take = currentTake.peek();
  if (!take) return [];
  if (!take.stems.length) return [{ url: take.sound, stem: null }];
  return take.stems.map((stem) => ({ url: stem.sound, stem: stem.name }));
}

export const NEUTRAL: StemMix = { gain_db: 0, pan: 0, mute: false };

/** Mix of a stem as it is heard: with solo, too. */
export function mixOf(take: Take, stem: string): StemMix {
  const mix = doc.peek().mixes[take.id]?.[stem] ?? NEUTRAL;
  const others = take.stems.some(({ name }) => solo.peek().has(name)) && !solo.peek().has(stem);
  return others ? { ...mix, mute: true } : mix;
}

/** Gain, and gains of left and right at constant power: the law by which the server mixes. */
function heard(stem: string | null): { gain: number; sides: [number, number] } {
  const take = currentTake.peek();
  if (stem === null || !take) return { gain: 1, sides: [1, 1] };
  const { gain_db, pan, mute } = mixOf(take, stem);
  const angle = ((pan + 1) * Math.PI) / 4;
  return {
    gain: mute ? 0 : 10 ** (gain_db / 20),
    sides: [Math.SQRT2 * Math.cos(angle), Math.SQRT2 * Math.sin(angle)],
  };
}

/** Plays a decoded sound into the graph, silent at first. */
function voiceOf(audio: AudioContext, source: Wanted, buffer: AudioBuffer): Voice {
  const { sides } = heard(source.stem);
  const voice: Voice = {
    ...source,
    source: new AudioBufferSourceNode(audio, { buffer }),
    gain: new GainNode(audio, { gain: 0, channelCount: 2, channelCountMode: "explicit" }),
    sides: [new GainNode(audio, { gain: sides[0] }), new GainNode(audio, { gain: sides[1] })],
  };
  const splitter = new ChannelSplitterNode(audio, { numberOfOutputs: 2 });
  const merger = new ChannelMergerNode(audio, { numberOfInputs: 2 });
  voice.source.connect(voice.gain).connect(splitter);
  voice.sides.forEach((side, channel) => {
    splitter.connect(side, channel);
    side.connect(merger, 0, channel);
  });
  merger.connect(master!);
  return voice;
}

function now_s(): number {
  if (!playing.peek() || !context) return time_s.peek();
  return startedFrom_s + (context.currentTime - startedAt);
}

function silence(): void {
  if (!context) return;
  const end = context.currentTime + CROSSFADE_S;
  for (const voice of voices) {
    voice.gain.gain.setTargetAtTime(0, context.currentTime, CROSSFADE_S / 3);
    voice.source.stop(end + CROSSFADE_S);
  }
  voices = [];
}

/** Starts what is wanted at the clock's time; what sounded before fades in the same moment. */
async function sound(): Promise<void> {
  const asked = ++generation;
  const sources = wanted();
  const audio = graph();
  loadingSound.value = sources.length > 0;
  try {
    const decoded = await Promise.all(sources.map((source) => loaded(source.url)));
    if (asked !== generation || !playing.peek()) return;
    silence();
    const at_s = now_s();
    voices = sources.map((source, index) => {
      const voice = voiceOf(audio, source, decoded[index]!);
      voice.gain.gain.setTargetAtTime(heard(source.stem).gain, audio.currentTime, CROSSFADE_S / 3);
      voice.source.start(0, Math.min(at_s, decoded[index]!.duration));
      return voice;
    });
  } catch (error) {
    fail(error);
  } finally {
    if (asked === generation) loadingSound.value = false;
  }
}

function follow(): void {
  if (!picture) return;
  const at_s = time_s.peek();
  const own = doc.peek().current === "original" || currentTake.peek() === null;
  picture.muted = !own;
  picture.volume = volume.peek();
  const ended = at_s >= (picture.duration || Infinity);
  if (playing.peek() && picture.paused && !ended) void picture.play().catch(() => {});
  if ((!playing.peek() || ended) && !picture.paused) picture.pause();
  const drift_s = Math.abs(picture.currentTime - at_s);
  if (!ended && drift_s > (playing.peek() ? MAX_DRIFT_S : 0.001)) picture.currentTime = at_s;
}

function tick(): void {
  let at_s = now_s();
  const range = doc.peek().range;
  if (looping.peek() && range && at_s >= range[1]) {
    seek(range[0]);
    at_s = range[0];
  } else if (at_s >= duration.peek()) {
    if (looping.peek() && !range) seek(0);
    else {
      pause();
      time_s.value = duration.peek();
      return;
    }
    at_s = 0;
  }
  time_s.value = at_s;
  follow();
  frame = requestAnimationFrame(tick);
}

export function play(): void {
  if (playing.peek()) return;
  const audio = graph();
  void audio.resume();
  const range = doc.peek().range;
  if (looping.peek() && range && (time_s.peek() < range[0] || time_s.peek() >= range[1]))
    time_s.value = range[0];
  if (time_s.peek() >= duration.peek() - 0.01) time_s.value = 0;
  startedFrom_s = time_s.peek();
  startedAt = audio.currentTime;
  playing.value = true;
  follow();
  void sound();
  frame = requestAnimationFrame(tick);
}

export function pause(): void {
  if (!playing.peek()) return;
  time_s.value = Math.min(now_s(), duration.peek());
  playing.value = false;
  cancelAnimationFrame(frame);
  generation++;
  silence();
  follow();
}

export const toggle = (): void => (playing.peek() ? pause() : play());

export function seek(to_s: number): void {
  const at_s = Math.min(Math.max(to_s, 0), duration.peek());
  time_s.value = at_s;
  if (playing.peek() && context) {
    startedFrom_s = at_s;
    startedAt = context.currentTime;
    void sound();
  }
  follow();
}

/** Fetches a take before it is chosen, so that the first change has no gap either. */
export function prepare(url: string): void {
  if (context) void loaded(url).catch(() => {});
}

let listening = false;

/** Lets the sound follow the document: the chosen take, its stems, their mix. */
function listen(): void {
  if (listening) return;
  listening = true;
  let before = "";
  effect(() => {
    void [doc.value.current, doc.value.takes, duration.value];
    const urls = JSON.stringify(wanted());
    if (urls === before) return;
    before = urls;
    if (playing.peek()) void sound();
    follow();
  });
  effect(() => {
    void [doc.value.mixes, solo.value];
    for (const voice of voices) {
      const { gain, sides } = heard(voice.stem);
      voice.gain.gain.setTargetAtTime(gain, context!.currentTime, 0.01);
      voice.sides.forEach((side, channel) =>
        side.gain.setTargetAtTime(sides[channel]!, context!.currentTime, 0.01),
      );
    }
  });
  effect(() => {
    master?.gain.setTargetAtTime(volume.value, context!.currentTime, 0.01);
    follow();
  });
}

listen();
