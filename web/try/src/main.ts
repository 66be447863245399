// The page: what is asked for goes to the worker, what it reports is shown.

import { drawSpectrogram } from "./spectrogram";
import { wav } from "./runtime/wav";
import type { Order, Report } from "./worker";

const MOST_S = 16;

const get = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;
const load = get<HTMLButtonElement>("load");
const form = get<HTMLFormElement>("form");
const prompt = get<HTMLTextAreaElement>("prompt");
const file = get<HTMLInputElement>("file");
const remove = get<HTMLButtonElement>("remove");
const seconds = get<HTMLInputElement>("seconds");
const seed = get<HTMLInputElement>("seed");
const make = get<HTMLButtonElement>("make");
const stop = get<HTMLButtonElement>("stop");
const step = get<HTMLProgressElement>("step");
const loaded = get<HTMLProgressElement>("loaded");
const film = get<HTMLVideoElement>("film");
const sound = get<HTMLAudioElement>("sound");
const save = get<HTMLAnchorElement>("save");

let worker = start();
let chosen: File | null = null;
let ready = false;

function start(): Worker {
  const begun = new Worker(new URL("worker.js", document.baseURI), { type: "module" });
  begun.onmessage = ({ data }: MessageEvent<Report>) => show(data);
  begun.onerror = (event) => fail(event.message || "The page's worker can't be started; reload the page.");
  begun.postMessage({ kind: "look", base: new URL(".", document.baseURI).href } satisfies Order);
  return begun;
}

function order(asked: Order): void {
  worker.postMessage(asked);
}

function say(text: string): void {
  const status = get("status");
  status.textContent = text;
  status.classList.remove("error");
}

function fail(message: string): void {
  say(message);
  get("status").classList.add("error");
  busy(false);
  load.disabled = false;
}

function busy(works: boolean): void {
  make.disabled = works;
  stop.hidden = step.hidden = !works;
  step.removeAttribute("value");
}

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;

function show(report: Report): void {
  switch (report.kind) {
    case "sizes":
      if (report.missing === 0 || ready) beginLoading(); // all in the cache, or stopped
      else {
        get("size").textContent =
          `The model ${report.name} is ${megabytes(report.total)}, of which ${megabytes(report.missing)} ` +
          "have to be loaded. It stays in the browser's cache.";
        load.hidden = false;
      }
      break;
    case "progress":
      loaded.value = report.done / report.total;
      get("size").textContent =
        report.done < report.total
          ? `${megabytes(report.done)} of ${megabytes(report.total)}`
          : "Everything is here; the model is being opened…";
      break;
    case "ready":
      ready = true;
      loaded.hidden = load.hidden = true;
      get("size").textContent =
        `The model is ready, on ${report.threads === 1 ? "one thread" : `${report.threads} threads`}. ` +
        "From now on the network is not needed.";
      form.hidden = false;
      busy(false);
      break;
    case "stage":
      say(`${report.stage[0]!.toUpperCase()}${report.stage.slice(1)}…`);
      if (report.part === undefined) step.removeAttribute("value");
      else step.value = report.part;
      break;
    case "made":
      showSound(report.samples, report.rateHz, report.tookS);
      break;
    case "failed":
      fail(report.message);
  }
}

function beginLoading(): void {
  load.disabled = true;
  loaded.hidden = false;
  order({ kind: "load" });
}

function showSound(samples: Float32Array, rateHz: number, tookS: number): void {
  busy(false);
  const length = samples.length / rateHz;
  say(`${length.toFixed(2)} s of sound.`);
  get("took").textContent = `made in ${tookS.toFixed(1)} s`;
  get("result").hidden = false;
  URL.revokeObjectURL(sound.src);
  sound.src = save.href = URL.createObjectURL(wav(samples, rateHz));
  const canvas = get<HTMLCanvasElement>("spectrogram");
  canvas.setAttribute("aria-label", `Spectrogram of ${length.toFixed(1)} seconds of sound`);
  drawSpectrogram(canvas, samples, rateHz);
  film.hidden = chosen === null;
}

function choose(given: File | null): void {
  chosen = given;
  remove.hidden = given === null;
  get("result").hidden = true;
  if (film.src) URL.revokeObjectURL(film.src);
  film.removeAttribute("src");
  if (!given) {
    file.value = "";
    return;
  }
  film.src = URL.createObjectURL(given);
  say(given.name);
}

film.onloadedmetadata = () => {
  if (Number.isFinite(film.duration)) {
    seconds.value = String(Math.max(1, Math.min(MOST_S, Math.ceil(film.duration * 2) / 2)));
  }
};
load.onclick = beginLoading;
remove.onclick = () => choose(null);
file.onchange = () => choose(file.files?.[0] ?? null);
stop.onclick = () => {
  worker.terminate();
  worker = start();
  say("Stopped.");
  form.hidden = step.hidden = stop.hidden = true;
};
form.onsubmit = (event) => {
  event.preventDefault();
  busy(true);
  order({
    kind: "make",
    prompt: prompt.value,
    seconds: seconds.valueAsNumber,
    seed: seed.valueAsNumber,
    ...(chosen ? { film: chosen } : {}),
  });
};

const drop = get("drop");
for (const kind of ["dragover", "dragleave", "drop"] as const) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    const dropped = kind === "drop" ? event.dataTransfer?.files[0] : undefined;
    if (dropped && !form.hidden) choose(dropped);
  });
}

// The film is mute and follows the sound.
for (const kind of ["play", "pause", "seeking"] as const) {
  sound.addEventListener(kind, () => {
    if (!chosen) return;
    film.currentTime = sound.currentTime;
    if (sound.paused) film.pause();
    else void film.play();
  });
}
