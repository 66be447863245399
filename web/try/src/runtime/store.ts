// The model's parts: loaded once with progress, kept in the browser's cache, checked, unpacked.

import type { Index, PartFile } from "./card";
import { unpack } from "./unpack";

const CACHE = "omni2sound-parts";
const FORMAT = 1;

/** Bytes that are there, and bytes in all. */
export type OnProgress = (done: number, total: number) => void;

/** Parts of the model, by name; each is unpacked when it is asked for. */
export class Store {
  private constructor(
    readonly index: Index,
    private readonly folder: URL,
    private readonly cache: Cache | null,
    private readonly kept: Map<string, ArrayBuffer>,
  ) {}

  /** Read the list of parts in a folder. */
  static async open(folder: URL): Promise<Store> {
    const cache = "caches" in globalThis ? await caches.open(CACHE) : null;
    const url = new URL("index.json", folder);
    let index: Index;
    try {
      const reply = await fetch(url, { cache: "no-cache" });
      if (!reply.ok) throw new Error(`${reply.status} ${reply.statusText}`);
      await cache?.put(url, reply.clone());
      index = (await reply.json()) as Index;
    } catch (error) {
      const before = await cache?.match(url); // without a network the page goes on with what it has
      if (!before) throw new Error(`The list of the model's parts can't be loaded: ${String(error)}`);
      index = (await before.json()) as Index;
    }
    if (index.format !== FORMAT) throw new Error(`The parts have format ${index.format}, not ${FORMAT}.`);
    return new Store(index, folder, cache, new Map());
  }

  has(name: string): boolean {
    return this.index.files.some((file) => file.name === name);
  }

  /** Bytes of all parts, and of those that the cache has not. */
  async sizes(): Promise<{ total: number; missing: number }> {
    let [total, missing] = [0, 0];
    for (const file of this.index.files) {
      total += file.bytes;
      if (!(await this.cache?.match(this.url(file)))) missing += file.bytes;
    }
    return { total, missing };
  }

  /** Load what is missing, and forget parts of other models. */
  async load(onProgress: OnProgress): Promise<void> {
    const { total } = await this.sizes();
    let done = 0;
    const step = (bytes: number): void => onProgress((done += bytes), total);
    for (const file of this.index.files) {
      if (await this.cache?.match(this.url(file))) step(file.bytes);
      else await this.fetchPart(file, step);
    }
    const own = new Set(this.index.files.map((file) => this.url(file).href));
    for (const request of (await this.cache?.keys()) ?? []) {
      const isPart = request.url.startsWith(this.folder.href) && request.url.includes("?");
      if (isPart && !own.has(request.url)) await this.cache?.delete(request);
    }
  }

  /** A part as it was before it was packed. */
  async read(name: string): Promise<Uint8Array> {
    const file = this.index.files.find((one) => one.name === name);
    if (!file) throw new Error(`the model has no ${name}`);
    const kept = this.kept.get(file.name) ?? (await (await this.cache?.match(this.url(file)))?.arrayBuffer());
    if (!kept) throw new Error(`${name} is no longer in the browser's cache; load the model again.`);
    return unpack(await inflate(kept), file);
  }

  private url(file: PartFile): URL {
    return new URL(`${file.path}?${file.sha256.slice(0, 16)}`, this.folder);
  }

  private async fetchPart(file: PartFile, step: (bytes: number) => void): Promise<void> {
    const reply = await fetch(this.url(file));
    if (!reply.ok || !reply.body) throw new Error(`${file.path} can't be loaded: ${reply.status} ${reply.statusText}`);
    const bytes = new Uint8Array(file.bytes);
    let at = 0;
    for await (const chunk of chunks(reply.body)) {
      if (at + chunk.length > bytes.length) throw new Error(`${file.path} is longer than its list says`);
      bytes.set(chunk, at);
      at += chunk.length;
      step(chunk.length);
    }
    if ((await sha256(bytes.subarray(0, at))) !== file.sha256) {
      throw new Error(`${file.path} arrived damaged; load the model again.`);
    }
    try {
      if (!this.cache) throw new Error("no cache");
      await this.cache.put(this.url(file), new Response(bytes));
    } catch {
      this.kept.set(file.name, bytes.buffer); // no room, or a private window: for this visit only
    }
  }
}

async function* chunks(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bytes before gzip. */
export async function inflate(packed: ArrayBuffer): Promise<Uint8Array> {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
