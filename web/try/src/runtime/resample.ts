// Change of the sample rate by a windowed sinc: flat to .9 of the lower rate's half, as the Python
// runtime's (soxr, HQ) is. Source: Kaiser's design formulas, Oppenheim & Schafer, section 7.6.

const PASSED = 0.913;
const STOPPED_DB = 120;

function bessel0(x: number): number {
  let [sum, term] = [1, 1];
  for (let k = 1; term > sum * 1e-16; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function divisor(a: number, b: number): number {
  return b ? divisor(b, a % b) : a;
}

/** Samples at another rate; their number is rounded half-up. */
export function resample(samples: Float32Array, fromHz: number, toHz: number): Float32Array {
  if (fromHz === toHz) return samples;
  const common = divisor(fromHz, toHz);
  const [up, down] = [toHz / common, fromHz / common];
  const lower = Math.min(1, toHz / fromHz);
  const cut = (lower * (1 + PASSED)) / 2; // of half the old rate
  const beta = 0.1102 * (STOPPED_DB - 8.7);
  const half = Math.ceil((STOPPED_DB - 8) / (2.285 * Math.PI * lower * (1 - PASSED)) / 2);
  const taps = 2 * half;
  const phases = new Float64Array(up * taps);
  for (let phase = 0; phase < up; phase++) {
    for (let k = 0; k < taps; k++) {
      const offset = k - half + 1 - phase / up;
      const inside = Math.max(0, 1 - (offset / half) ** 2);
      const angle = Math.PI * cut * offset;
      const sinc = angle === 0 ? cut : (cut * Math.sin(angle)) / angle;
      phases[phase * taps + k] = (sinc * bessel0(beta * Math.sqrt(inside))) / bessel0(beta);
    }
  }
  const made = new Float32Array(Math.floor((samples.length * up) / down + 0.5));
  for (let i = 0; i < made.length; i++) {
    const place = i * down;
    const first = Math.floor(place / up) - half + 1;
    const row = (place % up) * taps;
    let sum = 0;
    const end = Math.min(taps, samples.length - first);
    for (let k = Math.max(0, -first); k < end; k++) sum += phases[row + k]! * samples[first + k]!;
    made[i] = sum;
  }
  return made;
}
