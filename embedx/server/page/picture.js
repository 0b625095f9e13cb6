/* Pictures: grey PNG files of levels -> levels -> colours on a canvas, and words for those who do not see them. */

import { FLOOR_DB, frequencyOf } from "./scale.js";
import { seconds, t } from "./words.js";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const MAX_SIDE = 4096; // pixels of a picture; the server sends at most 1 600
const STEP_DB = 3; // of the contrast keys
const MAX_RANGE_DB = 60;
const MIN_RANGE_DB = 30;
const QUIET_DB = -100; // digital silence below it does not count for the median
const COLOURS = {
  night: ["#000004", "#1C1044", "#4F127B", "#812581", "#B5367A", "#E55964", "#FB8761", "#FEC287", "#FCFDBF"],
  paper: ["#FFFFFF", "#000000"],
  ink: ["#000000", "#FFFFFF"],
};

/** Return {width, height, levels} of a grey PNG file with 8 bits. Levels never pass through a canvas. */
export async function readPng(bytes) {
  if (SIGNATURE.some((byte, i) => bytes[i] !== byte)) throw new Error("This is no PNG file.");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const width = view.getUint32(16), height = view.getUint32(20);
  if (bytes[24] !== 8 || bytes[25] !== 0 || bytes[28] !== 0 || width > MAX_SIDE || height > MAX_SIDE) {
    throw new Error("This is no grey PNG file with 8 bits.");
  }
  const parts = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    if (view.getUint32(at + 4) === 0x49444154) parts.push(bytes.subarray(at + 8, at + 8 + length)); // IDAT
    at += 12 + length;
  }
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = new Uint8Array(await new Response(stream).arrayBuffer());
  if (lines.length < height * (width + 1)) throw new Error("The PNG file is cut.");
  return { width, height, levels: unfilter(lines, width, height) };
}

function unfilter(lines, width, height) {
  const levels = new Uint8Array(width * height);
  for (let row = 0; row < height; row++) {
    const kind = lines[row * (width + 1)], from = row * (width + 1) + 1, to = row * width;
    for (let i = 0; i < width; i++) {
      const left = i ? levels[to + i - 1] : 0, up = row ? levels[to + i - width] : 0;
      const corner = i && row ? levels[to + i - width - 1] : 0;
      levels[to + i] = lines[from + i] + [0, left, up, (left + up) >> 1, paeth(left, up, corner)][kind];
    }
  }
  return levels;
}

function paeth(left, up, corner) {
  const a = Math.abs(up - corner), b = Math.abs(left - corner), c = Math.abs(left + up - 2 * corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

const dbOf = (level) => (level / 254) * FLOOR_DB - FLOOR_DB;

/** Return {top, bottom} in dB: the 99.8th percentile, and the median of what is not silence, 30 to 60 dB below. */
function contrastOf(levels) {
  const counts = new Uint32Array(256);
  for (const level of levels) counts[level]++;
  const quiet = Math.floor(((QUIET_DB + FLOOR_DB) / FLOOR_DB) * 254);
  const top = dbOf(percentile(counts, 0, 0.998));
  const median = dbOf(percentile(counts, quiet + 1, 0.5));
  return { top, bottom: Math.min(top - MIN_RANGE_DB, Math.max(top - MAX_RANGE_DB, median)) };
}

function percentile(counts, from, share) {
  let total = 0;
  for (let level = from; level < 256; level++) total += counts[level];
  let left = share * total;
  for (let level = from; level < 256; level++) if ((left -= counts[level]) <= 0 && total) return level;
  return from;
}

const palettes = new Map();

/** Return 256 colours as they lie in the memory of a canvas. */
export function paletteOf(name) {
  if (!palettes.has(name)) {
    const stops = (COLOURS[name] ?? COLOURS.night).map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
    palettes.set(name, Uint32Array.from({ length: 256 }, (_, i) => {
      const place = (i / 255) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(place));
      const [r, g, b] = stops[low].map((v, c) => Math.round(v + (stops[low + 1][c] - v) * (place - low)));
      return (255 << 24) | (b << 16) | (g << 8) | r; // little-endian, as every browser's machine is
    }));
  }
  return palettes.get(name);
}

export function paint(canvas, picture, settings) {
  const { width, height, levels } = picture;
  const { top, bottom } = settings.fixed ? { top: -20, bottom: -80 } : (picture.contrast ??= contrastOf(levels));
  const shift = settings.contrast * STEP_DB, palette = paletteOf(settings.colours);
  const colours = Uint32Array.from({ length: 256 }, (_, level) => {
    const place = (dbOf(level) + shift - bottom) / (top - bottom);
    return palette[Math.round(255 * Math.max(0, Math.min(1, place)))];
  });
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  for (let i = 0; i < pixels.length; i++) pixels[i] = colours[levels[i]];
  canvas.getContext("2d").putImageData(image, 0, 0);
}

export function paintWave(canvas, peaks) {
  const bins = peaks.length / 2, height = canvas.height;
  canvas.width = bins;
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).color;
  for (let bin = 0; bin < bins; bin++) {
    const high = (0.5 - peaks[2 * bin + 1] / 254) * height, low = (0.5 - peaks[2 * bin] / 254) * height;
    context.fillRect(bin, Math.min(high, height - 1), 1, Math.max(1, low - high));
  }
}

export function isSilent(picture) {
  return picture.levels.every((level) => dbOf(level) <= QUIET_DB);
}

/** Say what a picture shows: "5 s, loudest at 2.1 kHz after 1.4 s, quiet before". */
export function describe(picture, duration_s, range) {
  if (isSilent(picture)) return t("picture.silence", { duration: seconds(duration_s) });
  const { width, height, levels } = picture;
  let loudest = 0;
  for (let i = 1; i < levels.length; i++) if (levels[i] > levels[loudest]) loudest = i;
  const column = loudest % width, row = Math.floor(loudest / width);
  const energy = (from, to) => {
    let sum = 0;
    for (let i = 0; i < levels.length; i++) if (i % width >= from && i % width < to) sum += levels[i];
    return to > from ? sum / ((to - from) * height) : 255;
  };
  const place = column > width / 4 && energy(0, column * 0.9) < energy(column * 0.9, width) - 12 ? "picture.later" : "picture.loudest";
  const hz = frequencyOf(1 - (row + 0.5) / height, range);
  return t(place, { duration: seconds(duration_s), khz: (hz / 1000).toFixed(1), at: seconds((column / width) * duration_s) });
}
