// The model in a browser: its graphs from the parts in the cache, opened once.

import { openGraph, type Graph } from "./graphs";
import type { Model } from "./pipeline";
import type { Store } from "./store";
import type { TokenizerFile } from "./tokenizer";

/** A model whose graphs are opened when first needed, and kept. */
export async function openModel(store: Store): Promise<Model> {
  const text = new TextDecoder().decode(await store.read("tokenizer.json"));
  const opened = new Map<string, Promise<Graph>>();
  const open = async (name: string): Promise<Graph> => {
    const numbers = `${name}.data`;
    const graph = await store.read(`${name}.onnx`);
    return openGraph(name, graph, store.has(numbers) ? await store.read(numbers) : undefined);
  };
  return {
    index: store.index,
    tokenizer: JSON.parse(text) as TokenizerFile,
    has: (name) => store.has(`${name}.onnx`),
    graph(name) {
      const found = opened.get(name) ?? open(name);
      opened.set(name, found);
      return found;
    },
  };
}
