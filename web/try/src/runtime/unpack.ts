// Files of numbers as they were before browser/numbers.py stored them in fewer bytes: of each kind the
// highest bytes of all numbers, then the next ones; at the end what is stored as it is.

import type { PartFile } from "./card";

let table: Uint32Array | undefined;

/** Bits of the float32 of each half. */
export function halves(): Uint32Array {
  if (table) return table;
  table = new Uint32Array(1 << 16);
  const float = new Float32Array(1);
  const bits = new Uint32Array(float.buffer);
  for (let half = 0; half < 1 << 16; half++) {
    const [exponent, fraction] = [(half >> 10) & 31, half & 1023];
    if (exponent === 31) {
      table[half] = ((half & 0x8000) << 16) | 0x7f800000 | (fraction << 13);
      continue;
    }
    float[0] = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
    table[half] = bits[0]! | ((half & 0x8000) << 16);
  }
  return table;
}

/** Bytes of a number of each kind in the file, and as it is stored. */
const KINDS = { float16: [2, 2], half: [4, 2], fine: [4, 3] } as const;

/** The file that a packed one stands for. */
export function unpack(packed: Uint8Array, file: PartFile): Uint8Array {
  if (!file.spans) return packed;
  const whole = new Uint8Array(file.size);
  const [bits, known] = [new DataView(whole.buffer), halves()];
  let at = 0;
  for (const [kind, [size, kept]] of Object.entries(KINDS)) {
    const spans = file.spans.filter(([, , stored]) => stored === kind);
    const count = spans.reduce((sum, [, length]) => sum + length / size, 0);
    const planes = Array.from({ length: kept }, (_, i) => packed.subarray(at + i * count, at + (i + 1) * count));
    const [first, second, third] = planes as [Uint8Array, Uint8Array, Uint8Array?];
    let i = 0;
    for (const [offset, length] of spans) {
      for (let to = offset; to < offset + length; to += size, i++) {
        const high = (first[i]! << 8) | second[i]!;
        if (kind === "float16") bits.setUint16(to, high, true);
        else if (kind === "half") bits.setUint32(to, known[high]!, true);
        else bits.setUint32(to, (high << 16) | (third![i]! << 8), true);
      }
    }
    at += kept * count;
  }
  for (const [offset, length, stored] of file.spans) {
    if (stored !== "raw") continue;
    whole.set(packed.subarray(at, at + length), offset);
    at += length;
  }
  if (at !== packed.length) throw new Error(`${file.name} holds other numbers than its list says`);
  return whole;
}
