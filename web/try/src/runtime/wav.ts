/** A WAV file of one channel, 16 bits. */
export function wav(samples: Float32Array, rateHz: number): Blob {
  const bytes = 2 * samples.length;
  const view = new DataView(new ArrayBuffer(44 + bytes));
  const write = (at: number, text: string): void =>
    [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  write(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // whole numbers
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rateHz, true);
  view.setUint32(28, 2 * rateHz, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  write(36, "data");
  view.setUint32(40, bytes, true);
  samples.forEach((sample, i) => {
    const whole = Math.round(sample * 32768);
    view.setInt16(44 + 2 * i, Math.min(Math.max(whole, -32768), 32767), true);
  });
  return new Blob([view], { type: "audio/wav" });
}
