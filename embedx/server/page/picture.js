/* Pictures: grey PNG files -> levels -> colours on a canvas, and words for those who do not see them. */

import { FLOOR_DB, clamp, frequencyOf } from "./scale.js";
import { seconds, t } from "./words.js";

export const PAINTED_BY = "colours contrast fixed"; // settings of `paint`
const MAX_SIDE = 4096; // pixels of a picture; the server sends at most 1 600
const STEP_DB = 3; // of the contrast keys
const MAX_RANGE_DB = 60, MIN_RANGE_DB = 30;
const QUIET_DB = -100; // below it is digital silence
const COLOURS = {
	night: ["#000004", "#1C1044", "#4F127B", "#812581", "#B5367A", "#E55964", "#FB8761", "#FEC287", "#FCFDBF"],
	paper: ["#FFFFFF", "#000000"],
	ink: ["#000000", "#FFFFFF"],
};

/**
 * Return {width, height, levels} of a PNG file of the server: grey, 8 bits, one part of data, each byte minus the one to its
 * left. Levels never pass through a canvas: some browsers falsify what is read back from it.
 */
export async function readPng(bytes) {
	const view = new DataView(bytes.buffer);
	const [width, height, length, data] = [16, 20, 33, 37].map((at) => view.getUint32(at));
	if (data !== 0x49444154 || Math.max(width, height) > MAX_SIDE) throw new Error("This is no picture of the server."); // IDAT
	const stream = new Blob([bytes.subarray(41, 41 + length)]).stream().pipeThrough(new DecompressionStream("deflate"));
	const lines = new Uint8Array(await new Response(stream).arrayBuffer()), levels = new Uint8Array(width * height);
	if (lines.length < height * (width + 1)) throw new Error("The picture is cut.");
	for (let row = 0; row < height; row++) {
		const from = row * (width + 1) + 1, to = row * width;
		for (let i = 0; i < width; i++) levels[to + i] = lines[from + i] + (i ? levels[to + i - 1] : 0);
	}
	return { width, height, levels };
}

const dbOf = (level) => (level / 254) * FLOOR_DB - FLOOR_DB;

/** Return {top, bottom} in dB: the 99.8th percentile, and the median of what is not silence, 30 to 60 dB below. */
function contrastOf(levels) {
	const sorted = levels.toSorted(), loud = sorted.subarray(sorted.findIndex((level) => dbOf(level) > QUIET_DB));
	const at = (values, share) => dbOf(values[Math.max(0, Math.ceil(share * values.length) - 1)]);
	const top = at(sorted, 0.998);
	if (top <= QUIET_DB) return { top: 0, bottom: -MAX_RANGE_DB }; // silence is dark
	return { top, bottom: clamp(at(loud, 0.5), top - MAX_RANGE_DB, top - MIN_RANGE_DB) };
}

export const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** Return a pixel, little-endian, as every browser's machine is. */
export const packed = ([r, g, b]) => (255 << 24) | (b << 16) | (g << 8) | r;

const palettes = new Map();

export function paletteOf(name) {
	if (!palettes.has(name)) {
		const stops = (COLOURS[name] ?? COLOURS.night).map(rgbOf);
		palettes.set(name, Uint32Array.from({ length: 256 }, (_, i) => {
			const place = (i / 255) * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(place));
			return packed(stops[low].map((v, c) => Math.round(v + (stops[low + 1][c] - v) * (place - low))));
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
		return palette[Math.round(255 * clamp(place))];
	});
	Object.assign(canvas, { width, height });
	const image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
	for (let i = 0; i < pixels.length; i++) pixels[i] = colours[levels[i]];
	canvas.getContext("2d").putImageData(image, 0, 0);
}

export function paintWave(canvas, peaks) {
	const bins = (canvas.width = peaks.length / 2), { height } = canvas, context = canvas.getContext("2d");
	context.fillStyle = getComputedStyle(canvas).color;
	for (let bin = 0; bin < bins; bin++) {
		const [low, high] = [peaks[2 * bin], peaks[2 * bin + 1]].map((peak) => (0.5 - peak / 254) * height);
		context.fillRect(bin, Math.min(high, height - 1), 1, Math.max(1, low - high));
	}
}

export const isSilent = ({ levels }) => levels.every((level) => dbOf(level) <= QUIET_DB);

/** Say what a picture shows: "5 s, loudest at 2.1 kHz after 1.4 s, quiet before". */
export function describe(picture, duration_s, range) {
	const duration = seconds(duration_s), { width, height, levels } = picture;
	if (isSilent(picture)) return t("picture.silence", { duration });
	const loudest = levels.indexOf(levels.reduce((a, b) => Math.max(a, b))), column = loudest % width, row = Math.floor(loudest / width);
	const mean = (from, to) => {
		const part = levels.filter((_, i) => i % width >= from && i % width < to);
		return part.length ? part.reduce((a, b) => a + b, 0) / part.length : 255;
	};
	const isLater = column > width / 4 && mean(0, column * 0.9) < mean(column * 0.9, width) - 12;
	const hz = frequencyOf(1 - (row + 0.5) / height, range);
	return t("picture.loudest", { duration, khz: (hz / 1000).toFixed(1), at: seconds((column / width) * duration_s) }) + (isLater ? t("picture.later") : "");
}
