/* WAV files: float samples as 16 bits. */

/** Return a WAV file of channels of one length. */
export function wavOf(channels, rate) {
  const count = channels.length, length = channels[0].length, bytes = 2 * count * length;
  const view = new DataView(new ArrayBuffer(44 + bytes));
  const words = (at, text) => [...text].forEach((sign, i) => view.setUint8(at + i, sign.charCodeAt(0)));
  words(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  words(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, count, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * count * rate, true);
  view.setUint16(32, 2 * count, true);
  view.setUint16(34, 16, true);
  words(36, "data");
  view.setUint32(40, bytes, true);
  const samples = new Int16Array(view.buffer, 44); // little-endian, as every browser's machine is
  channels.forEach((channel, c) => {
    for (let i = 0; i < length; i++) samples[i * count + c] = Math.round(32_767 * Math.max(-1, Math.min(1, channel[i])));
  });
  return new Blob([view], { type: "audio/wav" });
}
