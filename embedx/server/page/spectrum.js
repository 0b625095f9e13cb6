/* The worker that draws dropped and recorded sounds, by the rule of the server. */

import { FLOOR_DB, clamp, frequencies, frequencyOf } from "./scale.js";

const FRAMES = 8; // in a column at most; it shows the loudest, so that a short call is not averaged away
const OVERLAP = 4; // frames that cover a sample, where there is room for them
const ULTRASOUND_RATE = 96_000; // recordings of bats, whose calls last some milliseconds

addEventListener("message", ({ data: { samples, rate, bins, stretch_s, ...options }, ports: [port] }) => {
	const levels = levelsOf(samples, rate, options), peaks = peaksOf(samples, bins);
	port.postMessage({ levels, peaks, loudest_s: loudestStretch(samples, rate, stretch_s) }, [levels.buffer, peaks.buffer]);
});

/** Return the power of two that is nearest to the time; by default 46 ms, or 6 for ultrasound. */
function windowSize(rate, ms) {
	const time = ms || (rate >= ULTRASOUND_RATE ? 6 : 46);
	return 2 ** clamp(Math.round(Math.log2((rate * time) / 1000)), 4, 16);
}

const sumOf = (values) => values.reduce((sum, value) => sum + value, 0);

/** Return the weights of each band over the bins, as {first, weights}: triangles whose weights sum to 1. */
function bandsOf(size, rate, bands, { scale = "mel", ...range }) {
	const shown = { ...frequencies(rate, { ...range, scale }), scale }, width = rate / size;
	const edges = Array.from({ length: bands + 2 }, (_, i) => frequencyOf(i / (bands + 1), shown) / width);
	return Array.from({ length: bands }, (_, band) => {
		const [low, centre, high] = edges.slice(band, band + 3), first = Math.max(0, Math.ceil(low)), last = Math.min(size / 2, Math.floor(high));
		const weights = Float64Array.from({ length: Math.max(0, last - first + 1) }, (_, i) =>
			Math.max(0, Math.min((first + i - low) / (centre - low), (high - first - i) / (high - centre))));
		const sum = sumOf(weights);
		return weights.filter((weight) => weight > 0).length < 2 ? aroundCentre(centre, size) : { first, weights: weights.map((weight) => weight / sum) };
	});
}

function aroundCentre(place, size) {
	const first = Math.min(size / 2 - 1, Math.floor(place));
	return { first, weights: Float64Array.of(first + 1 - place, place - first) };
}

/** Return the function first sample of a frame -> powers of its bins; a full-scale sine has the power 1. */
function powerSpectrum(samples, size) {
	const table = (length, value) => Float64Array.from({ length }, (_, i) => value((2 * Math.PI * i) / size));
	const window = table(size, (angle) => 0.5 - 0.5 * Math.cos(angle)), cos = table(size / 2, Math.cos), sin = table(size / 2, (angle) => -Math.sin(angle));
	const scale = 4 / sumOf(window) ** 2, re = new Float64Array(size), im = new Float64Array(size), power = new Float64Array(size / 2 + 1);
	const order = new Uint32Array(size); // bits of the place from right to left
	for (let half = 1; half < size; half *= 2) for (let i = 0; i < half; i++) order[half + i] = order[i] + size / (2 * half);
	const transform = () => {
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
	};
	return (start) => {
		for (let i = 0; i < size; i++) {
			const place = start + order[i];
			re[i] = place >= 0 && place < samples.length ? samples[place] * window[order[i]] : 0;
		}
		im.fill(0);
		transform();
		for (let bin = 0; bin < power.length; bin++) power[bin] = (re[bin] ** 2 + im[bin] ** 2) * scale;
		return power;
	};
}

/** Return the first samples of the frames of a column, spread evenly over its time. */
function frameStarts(column, span, size) {
	const count = clamp(Math.ceil(span / (size / OVERLAP)), 1, FRAMES);
	return Array.from({ length: count }, (_, i) => Math.floor((column + (i + 0.5) / count) * span) - size / 2);
}

/** Return the levels [height, width] of samples, the highest band first: 2 round(127 (dB + 120) / 120). */
export function levelsOf(samples, rate, { width = 640, height = 128, window_ms = 0, ...options } = {}) {
	const size = windowSize(rate, window_ms), powerAt = powerSpectrum(samples, size), bands = bandsOf(size, rate, height, options);
	const levels = new Uint8Array(width * height), loudest = new Float64Array(height);
	for (let column = 0; column < width; column++) {
		loudest.fill(0);
		for (const start of frameStarts(column, samples.length / width, size)) {
			const power = powerAt(start);
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

function levelOf(power) {
	const db = 10 * Math.log10(power + 1e-30);
	return 2 * Math.round(127 * clamp((db + FLOOR_DB) / FLOOR_DB));
}

function peaksOf(samples, bins) {
	const pairs = new Int8Array(2 * bins), level = (value) => Math.round(127 * clamp(value, -1));
	for (let bin = 0; bin < bins; bin++) {
		const first = Math.floor((bin * samples.length) / bins), last = Math.max(first + 1, Math.floor(((bin + 1) * samples.length) / bins));
		const part = samples.subarray(first, last);
		pairs[2 * bin] = level(part.reduce((a, b) => Math.min(a, b), Infinity));
		pairs[2 * bin + 1] = level(part.reduce((a, b) => Math.max(a, b), -Infinity));
	}
	return pairs;
}

function loudestStretch(samples, rate, seconds) {
	const step = Math.max(1, Math.round(rate / 10)), energies = [];
	for (let first = 0; first < samples.length; first += step) energies.push(samples.subarray(first, first + step).reduce((sum, value) => sum + value ** 2, 0));
	const count = clamp(Math.round((seconds * rate) / step), 1, energies.length);
	let sum = sumOf(energies.slice(0, count)), best = sum, at = 0;
	for (let first = 1; first + count <= energies.length; first++) {
		sum += energies[first + count - 1] - energies[first - 1];
		if (sum > best * (1 + 1e-9)) [best, at] = [sum, first];
	}
	return (at * step) / rate;
}
