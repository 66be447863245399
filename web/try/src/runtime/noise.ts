// Random numbers of a seed, equal to those of the Python runtime (generate/onnx/noise.py), which
// are those of torch's generator on a CPU. Matsumoto & Nishimura 1998 (MT19937).

const SIZE = 624;
const SHIFT = 397;
const BLOCK = 16;
const HALF = 8;

/** Random numbers of one seed. */
export class Noise {
  private readonly state = new Uint32Array(SIZE);
  private next = SIZE;

  constructor(seed: number | bigint) {
    this.state[0] = Number(BigInt.asUintN(32, BigInt(seed)));
    for (let i = 1; i < SIZE; i++) {
      const before = this.state[i - 1]! ^ (this.state[i - 1]! >>> 30);
      this.state[i] = Math.imul(before, 1812433253) + i;
    }
  }

  /** Standard normal numbers, 16 or more, drawn in blocks as torch does. */
  normal(count: number): Float32Array {
    if (count < BLOCK) throw new RangeError(`expected ${BLOCK} numbers or more, got ${count}`);
    const made = new Float32Array(count);
    for (let i = 0; i < count; i++) made[i] = this.uniform();
    const whole = count - (count % BLOCK);
    for (let i = 0; i < whole; i += BLOCK) toNormal(made.subarray(i, i + BLOCK));
    if (whole < count) {
      // The last block overlaps the one before it, and is drawn again.
      const last = made.subarray(count - BLOCK);
      for (let i = 0; i < BLOCK; i++) last[i] = this.uniform();
      toNormal(last);
    }
    return made;
  }

  /** A whole number from 0 to below the limit. */
  below(limit: number): number {
    return this.raw() % limit;
  }

  private uniform(): number {
    return (this.raw() & 0xffffff) * 2 ** -24;
  }

  private raw(): number {
    if (this.next === SIZE) this.twist();
    let y = this.state[this.next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  private twist(): void {
    const mt = this.state;
    for (let i = 0; i < SIZE; i++) {
      const y = (mt[i]! & 0x80000000) | (mt[(i + 1) % SIZE]! & 0x7fffffff);
      mt[i] = mt[(i + SHIFT) % SIZE]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}

/** Box and Muller in place: eight cosines, then the eight sines of the same pairs. */
function toNormal(block: Float32Array): void {
  for (let i = 0; i < HALF; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - block[i]!));
    const angle = 2 * Math.PI * block[i + HALF]!;
    block[i] = radius * Math.cos(angle);
    block[i + HALF] = radius * Math.sin(angle);
  }
}
