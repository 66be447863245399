/**
 * Loudness while it plays: K-weighting of ITU-R BS.1770 as two filters of the browser's audio graph,
 * and the mean square of the last 400 ms ("momentary" in EBU R 128).
 */

interface Biquad {
  forward: number[];
  feedback: number[];
}

/** High shelf of the head and high-pass of BS.1770 for any rate: bilinear, from the analogue values. */
function kWeighting(rate_hz: number): [Biquad, Biquad] {
  const shelf = ((): Biquad => {
    const gain_db = 3.999843853973347;
    const q = 0.7071752369554196;
    const k = Math.tan((Math.PI * 1681.974450955533) / rate_hz);
    const vh = 10 ** (gain_db / 20);
    const vb = vh ** 0.4996667741545416;
    const a0 = 1 + k / q + k * k;
    return {
      forward: [(vh + (vb * k) / q + k * k) / a0, (2 * (k * k - vh)) / a0, (vh - (vb * k) / q + k * k) / a0],
      feedback: [1, (2 * (k * k - 1)) / a0, (1 - k / q + k * k) / a0],
    };
  })();
  const q = 0.5003270373238773;
  const k = Math.tan((Math.PI * 38.13547087602444) / rate_hz);
  const a0 = 1 + k / q + k * k;
  const highPass = { forward: [1, -2, 1], feedback: [1, (2 * (k * k - 1)) / a0, (1 - k / q + k * k) / a0] };
  return [shelf, highPass];
}

export interface Level {
  momentary_lufs: number;
  peak_db: number;
}

const decibels = (power: number): number => 10 * Math.log10(Math.max(power, 1e-12));

/** Listens to a node of the graph; `read` gives the level of the last 400 ms and its highest sample. */
export class Meter {
  readonly #weighted: AnalyserNode[] = [];
  readonly #plain: AnalyserNode[] = [];
  readonly #samples: Float32Array<ArrayBuffer>;
  readonly #window: number;

  constructor(context: BaseAudioContext, source: AudioNode) {
    const splitter = context.createChannelSplitter(2);
    source.connect(splitter);
    this.#window = Math.round(0.4 * context.sampleRate);
    const size = 2 ** Math.min(15, Math.ceil(Math.log2(this.#window)));
    this.#samples = new Float32Array(size);
    for (const channel of [0, 1]) {
      const plain = new AnalyserNode(context, { fftSize: size });
      splitter.connect(plain, channel);
      this.#plain.push(plain);
      let node: AudioNode = plain;
      for (const { forward, feedback } of kWeighting(context.sampleRate))
        node = node.connect(context.createIIRFilter(forward, feedback));
      const weighted = new AnalyserNode(context, { fftSize: size });
      node.connect(weighted);
      this.#weighted.push(weighted);
    }
  }

  read(): Level {
    const powers = this.#weighted.map((analyser) => {
      analyser.getFloatTimeDomainData(this.#samples);
      const last = this.#samples.subarray(Math.max(0, this.#samples.length - this.#window));
      let sum = 0;
      for (const sample of last) sum += sample * sample;
      return sum / last.length;
    });
    // Equal channels are a sound of one channel, which counts once, as in its file.
    const [left, right] = powers as [number, number];
    const power = Math.abs(left - right) <= 1e-9 * left ? left : left + right;
    let peak = 0;
    for (const analyser of this.#plain) {
      analyser.getFloatTimeDomainData(this.#samples);
      for (const sample of this.#samples.subarray(-this.#window / 4))
        peak = Math.max(peak, Math.abs(sample));
    }
    return { momentary_lufs: decibels(power) - 0.691, peak_db: decibels(peak * peak) };
  }
}
