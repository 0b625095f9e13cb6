/* Spectrograms: samples -> levels of a picture. The server draws rows and recordings by the same rule. */

import { FLOOR_DB, frequencies, hzOf, melOf } from "./scale.js";

const FRAMES = 8; // frames in a column at most; the column shows the loudest, so that a short call is not averaged away
const OVERLAP = 4; // frames that cover a sample, where there is room for them
const ULTRASOUND_RATE = 96_000; // recordings of bats, whose calls last some milliseconds

/** Return the samples of a window: the power of two that is nearest to its time; by default 46 ms, or 6 for ultrasound. */
function windowSize(rate, ms = 0) {
  const time = ms || (rate >= ULTRASOUND_RATE ? 6 : 46);
  return 2 ** Math.min(16, Math.max(4, Math.round(Math.log2((rate * time) / 1000))));
}

/** Return the frequencies between which `bands` triangles lie: bands + 2 corners from fmin to fmax. */
function corners(bands, fmin, fmax, scale) {
  const [low, high] = scale === "mel" ? [melOf(fmin), melOf(fmax)] : [fmin, fmax];
  return Array.from({ length: bands + 2 }, (_, i) => {
    const place = low + ((high - low) * i) / (bands + 1);
    return scale === "mel" ? hzOf(place) : place;
  });
}

/** Return the weights of each band over the bins, as {first, weights}; the weights of a band sum to 1. */
function bandsOf(size, rate, { bands = 128, scale = "mel", ...range } = {}) {
  const { fmin, fmax } = frequencies(rate, { ...range, scale });
  const edges = corners(bands, fmin, fmax, scale);
  const width = rate / size;
  return Array.from({ length: bands }, (_, band) => {
    const [low, centre, high] = edges.slice(band, band + 3);
    const first = Math.max(0, Math.ceil(low / width));
    const last = Math.min(size / 2, Math.floor(high / width));
    const weights = [];
    for (let bin = first; bin <= last; bin++) {
      const hz = bin * width;
      weights.push(Math.max(0, Math.min((hz - low) / (centre - low), (high - hz) / (high - centre))));
    }
    return weights.filter((weight) => weight > 0).length < 2 ? aroundCentre(centre / width, size) : norm(first, weights);
  });
}

/** Return the two bins around a centre, weighted by their distance to it. */
function aroundCentre(place, size) {
  const first = Math.min(size / 2 - 1, Math.floor(place));
  return { first, weights: Float64Array.of(first + 1 - place, place - first) };
}

function norm(first, weights) {
  const sum = weights.reduce((a, b) => a + b, 0);
  return { first, weights: Float64Array.from(weights, (weight) => weight / sum) };
}

/** A Fourier transform of real frames of one size; it returns the power of each bin, scaled to a full-scale sine. */
class PowerSpectrum {
  constructor(size) {
    this.size = size;
    this.window = Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
    const sum = this.window.reduce((a, b) => a + b, 0);
    this.scale = 4 / (sum * sum); // a sine of amplitude 1 has the power 1
    this.re = new Float64Array(size);
    this.im = new Float64Array(size);
    this.cos = Float64Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.sin = Float64Array.from({ length: size / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / size));
    const bits = Math.log2(size);
    this.order = Uint32Array.from({ length: size }, (_, i) => {
      let turned = 0;
      for (let bit = 0; bit < bits; bit++) turned |= ((i >> bit) & 1) << (bits - 1 - bit);
      return turned;
    });
    this.power = new Float64Array(size / 2 + 1);
  }

  /** Return the power [size / 2 + 1] of the frame that begins at `start`; outside of the samples is silence. */
  of(samples, start) {
    const { size, re, im, order, window, power } = this;
    for (let i = 0; i < size; i++) {
      const place = start + order[i];
      re[i] = place >= 0 && place < samples.length ? samples[place] * window[order[i]] : 0;
    }
    im.fill(0);
    this.transform();
    for (let bin = 0; bin < power.length; bin++) power[bin] = (re[bin] ** 2 + im[bin] ** 2) * this.scale;
    return power;
  }

  transform() {
    const { size, re, im, cos, sin } = this;
    for (let half = 1; half < size; half *= 2) {
      const step = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half) {
        for (let i = 0, turn = 0; i < half; i++, turn += step) {
          const a = start + i, b = a + half;
          const x = re[b] * cos[turn] - im[b] * sin[turn], y = re[b] * sin[turn] + im[b] * cos[turn];
          re[b] = re[a] - x;
          im[b] = im[a] - y;
          re[a] += x;
          im[a] += y;
        }
      }
    }
  }
}

/** Return the first samples of the frames of a column: up to 8, spread evenly over its time, centred on it. */
function frameStarts(column, columns, samples, size) {
  const span = samples / columns;
  const count = Math.max(1, Math.min(FRAMES, Math.ceil(span / (size / OVERLAP))));
  return Array.from({ length: count }, (_, i) =>
    Math.floor((column + (i + 0.5) / count) * span) - size / 2);
}

/** Return the levels [height, width] of samples, the highest band first: 2 round(127 (dB + 120) / 120). */
export function levelsOf(samples, rate, { width = 640, height = 128, window_ms = 0, ...options } = {}) {
  const spectrum = new PowerSpectrum(windowSize(rate, window_ms));
  const bands = bandsOf(spectrum.size, rate, { bands: height, ...options });
  const levels = new Uint8Array(width * height);
  const loudest = new Float64Array(height);
  for (let column = 0; column < width; column++) {
    loudest.fill(0);
    for (const start of frameStarts(column, width, samples.length, spectrum.size)) {
      const power = spectrum.of(samples, start);
      for (let band = 0; band < height; band++) {
        const { first, weights } = bands[band];
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += power[first + i] * weights[i];
        if (sum > loudest[band]) loudest[band] = sum;
      }
    }
    for (let band = 0; band < height; band++) levels[(height - 1 - band) * width + column] = levelOf(loudest[band]);
  }
  return levels;
}

const levelOf = (power) => {
  const db = 10 * Math.log10(power + 1e-30);
  return 2 * Math.round(127 * Math.min(1, Math.max(0, (db + FLOOR_DB) / FLOOR_DB)));
};

/** Return pairs of int8 (min, max) of `bins` equal parts of the samples. */
export function peaksOf(samples, bins = 1600) {
  const pairs = new Int8Array(2 * bins);
  for (let bin = 0; bin < bins; bin++) {
    const first = Math.floor((bin * samples.length) / bins);
    const last = Math.max(first + 1, Math.floor(((bin + 1) * samples.length) / bins));
    let low = Infinity, high = -Infinity;
    for (let i = first; i < last && i < samples.length; i++) {
      if (samples[i] < low) low = samples[i];
      if (samples[i] > high) high = samples[i];
    }
    pairs[2 * bin] = Math.round(127 * Math.max(-1, Math.min(1, low)));
    pairs[2 * bin + 1] = Math.round(127 * Math.max(-1, Math.min(1, high)));
  }
  return pairs;
}

/** Return the begin in seconds of the loudest stretch of `seconds`. */
export function loudestStretch(samples, rate, seconds) {
  const step = Math.max(1, Math.round(rate / 10));
  const energies = [];
  for (let first = 0; first < samples.length; first += step) {
    let sum = 0;
    for (let i = first; i < Math.min(first + step, samples.length); i++) sum += samples[i] ** 2;
    energies.push(sum);
  }
  const count = Math.min(energies.length, Math.max(1, Math.round((seconds * rate) / step)));
  let sum = energies.slice(0, count).reduce((a, b) => a + b, 0);
  let best = sum, at = 0;
  for (let first = 1; first + count <= energies.length; first++) {
    sum += energies[first + count - 1] - energies[first - 1];
    if (sum > best * (1 + 1e-9)) [best, at] = [sum, first];
  }
  return (at * step) / rate;
}
