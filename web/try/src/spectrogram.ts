// Spectrogram of a sound: levels over time and frequency, low sounds below.

const SIZE = 1024;
const RANGE_DB = 70;
const LEAST_HZ = 50;

/** Draw it over the whole canvas; frequencies are spaced by pitch. */
export function drawSpectrogram(canvas: HTMLCanvasElement, samples: Float32Array, rateHz: number): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  const { width, height } = canvas;
  const window = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
  const columns = Array.from({ length: width }, (_, x) => {
    const first = Math.round(((x + 0.5) / width) * samples.length - SIZE / 2);
    return powers(window.map((weight, i) => weight * (samples[first + i] ?? 0)));
  });
  const loudest = Math.max(1e-12, ...columns.map((column) => column.reduce((a, b) => Math.max(a, b))));
  const image = context.createImageData(width, height);
  for (let y = 0; y < height; y++) {
    const hz = LEAST_HZ * (rateHz / 2 / LEAST_HZ) ** (1 - (y + 0.5) / height);
    const bin = Math.min(SIZE / 2 - 1, Math.round((hz / rateHz) * SIZE));
    for (let x = 0; x < width; x++) {
      const level = 1 + (10 * Math.log10(columns[x]![bin]! / loudest + 1e-12)) / RANGE_DB;
      image.data.set(colour(Math.max(0, level)), (y * width + x) * 4);
    }
  }
  context.putImageData(image, 0, 0);
}

/** Black, blue, orange, white. */
function colour(level: number): [number, number, number, number] {
  const at = (rise: number, length: number): number => 255 * Math.min(1, Math.max(0, (level - rise) / length));
  return [at(0.35, 0.4), at(0.55, 0.45), level < 0.5 ? at(0, 0.4) * 0.7 : 178 - at(0.5, 0.3) * 0.6 + at(0.8, 0.2), 255];
}

/** Powers of the lower half of the spectrum (Cooley & Tukey 1965, radix 2). */
function powers(values: Float32Array): Float32Array {
  const real = new Float64Array(SIZE);
  const imaginary = new Float64Array(SIZE);
  const bits = Math.log2(SIZE);
  for (let i = 0; i < SIZE; i++) {
    let reversed = 0;
    for (let b = 0; b < bits; b++) reversed |= ((i >> b) & 1) << (bits - 1 - b);
    real[reversed] = values[i]!;
  }
  for (let half = 1; half < SIZE; half *= 2) {
    for (let k = 0; k < half; k++) {
      const [cos, sin] = [Math.cos((Math.PI * k) / half), -Math.sin((Math.PI * k) / half)];
      for (let i = k; i < SIZE; i += 2 * half) {
        const j = i + half;
        const [re, im] = [real[j]! * cos - imaginary[j]! * sin, real[j]! * sin + imaginary[j]! * cos];
        real[j] = real[i]! - re;
        imaginary[j] = imaginary[i]! - im;
        real[i]! += re;
        imaginary[i]! += im;
      }
    }
  }
  return Float32Array.from({ length: SIZE / 2 }, (_, i) => real[i]! ** 2 + imaginary[i]! ** 2);
}
