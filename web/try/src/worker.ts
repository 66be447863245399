// The model in a thread of its own, so that the page stays responsive.

import { generate, MOST_S, type Model, type Pictures } from "./runtime/pipeline";
import { openFilm } from "./runtime/pictures";
import { inflate, Store } from "./runtime/store";
import { openModel } from "./runtime/model";
import { setRuntime } from "./runtime/graphs";

export type Order =
  | { kind: "look"; base: string }
  | { kind: "load" }
  | { kind: "make"; prompt: string; seconds: number; seed: number; film?: Blob; pictures?: Pictures };

export type Report =
  | { kind: "sizes"; total: number; missing: number; name: string }
  | { kind: "progress"; done: number; total: number }
  | { kind: "ready"; threads: number }
  | { kind: "stage"; stage: string; part?: number }
  | { kind: "made"; samples: Float32Array<ArrayBuffer>; rateHz: number; tookS: number }
  | { kind: "failed"; message: string };

const RUNTIME = `ort/${__ORT__}`;
const MOST_THREADS = 4;
const OPENED = ["level", "text", "prepare", "denoise", "decoder", "band"];

let base: URL;
let store: Store;
let model: Model;

const tell = (report: Report, moved: Transferable[] = []): void => self.postMessage(report, { transfer: moved });

async function look(): Promise<void> {
  store = await Store.open(new URL("parts/", base));
  const { total, missing } = await store.sizes();
  tell({ kind: "sizes", total: total + __ORT_BYTES__, missing: missing && missing + __ORT_BYTES__, name: store.index.card.name });
}

async function load(): Promise<void> {
  const all = __ORT_BYTES__;
  const reply = await fetch(new URL(`${RUNTIME}.wasm.packed`, base));
  if (!reply.ok) throw new Error(`The runtime can't be loaded: ${reply.status} ${reply.statusText}`);
  const code = await inflate(await reply.arrayBuffer());
  await store.load((done, total) => tell({ kind: "progress", done: done + all, total: total + all }));
  const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
  setRuntime(new URL(`${RUNTIME}.mjs`, base).href, code.buffer as ArrayBuffer, threads);
  model = await openModel(store);
  for (const name of OPENED) if (model.has(name)) await model.graph(name);
  tell({ kind: "ready", threads });
}

async function make(order: Order & { kind: "make" }): Promise<void> {
  const begin = performance.now();
  const { prompt, seed, film } = order;
  let { seconds, pictures } = order;
  if (film) {
    const opened = await openFilm(film);
    seconds = Math.min(seconds, opened.seconds, MOST_S);
    pictures = await opened.pictures(store.index.card, seconds, (part) =>
      tell({ kind: "stage", stage: "looking at the video", part }),
    );
  }
  const made = await generate(
    model,
    { prompt, seconds, seed, ...(pictures ? { pictures } : {}) },
    (stage) => tell({ kind: "stage", stage }),
    (done, total) => tell({ kind: "stage", stage: "sampling", part: done / total }),
  );
  const samples = made.samples as Float32Array<ArrayBuffer>;
  const tookS = (performance.now() - begin) / 1000;
  tell({ kind: "made", samples, rateHz: made.rateHz, tookS }, [samples.buffer]);
}

self.onmessage = async ({ data }: MessageEvent<Order>) => {
  try {
    if (data.kind === "look") {
      base = new URL(data.base);
      await look();
    } else if (data.kind === "load") await load();
    else await make(data);
  } catch (error) {
    tell({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  }
};
