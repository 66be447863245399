// Graphs of the exported model, run by ONNX Runtime's build for WebAssembly.

import * as ort from "onnxruntime-web/wasm";

/** Numbers with their shape. */
export interface Array {
  data: Float32Array | Uint8Array | BigInt64Array;
  shape: readonly number[];
  type: "float32" | "uint8" | "int64" | "bool";
}

/** From inputs by name to outputs in order. */
export type Graph = (inputs: Record<string, Array>) => Promise<Array[]>;

export function array(
  data: Array["data"],
  shape: readonly number[],
  type: Array["type"] = data instanceof Float32Array ? "float32" : "uint8",
): Array {
  return { data, shape, type };
}

/** Where the runtime is: its script, and its code that has been loaded already. */
export function setRuntime(script: string, code: ArrayBuffer, threads: number): void {
  ort.env.wasm.wasmPaths = { mjs: script };
  ort.env.wasm.wasmBinary = code;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "error";
}

/** A graph ready to run. */
export async function openGraph(
  name: string,
  graph: Uint8Array,
  numbers: Uint8Array | undefined,
): Promise<Graph> {
  const session = await ort.InferenceSession.create(graph, {
    executionProviders: ["wasm"],
    ...(numbers ? { externalData: [{ path: `${name}.data`, data: numbers }] } : {}),
  });
  return async (inputs) => {
    const feeds = Object.fromEntries(
      Object.entries(inputs).map(([key, value]) => [
        key,
        new ort.Tensor(value.type, value.data as never, [...value.shape]),
      ]),
    );
    const made = await session.run(feeds);
    return session.outputNames.map((key) => {
      const { data, dims, type } = made[key]!;
      return { data, shape: dims, type } as Array;
    });
  };
}
