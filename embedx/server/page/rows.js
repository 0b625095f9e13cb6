/* What the page gets for a row: its picture and its sound, each kept, and asked for once only. */

import { ApiError, Cache, fetchPart, getJson, path, withFields } from "./api.js";
import { readPng } from "./picture.js";
import { frequencies } from "./scale.js";
import { decode } from "./sound.js";
import { state } from "./state.js";

const MAX_CARD_WIDTH = 640; // pixels; larger pictures are those of the inspector, and come first
const pictures = new Cache(32e6); // bytes of levels
const sounds = new Cache(64e6); // bytes of samples
const pending = new Map();

export const rangeOf = (rate) => ({ ...frequencies(rate, state.settings), scale: state.settings.scale });

/** Return the settings that a picture of the server depends on. */
export function looksOf() {
	const { fmin, fmax, scale, window_ms } = state.settings;
	return { scale, fmin: fmin || null, fmax: fmax || null, window_ms: window_ms || null };
}

export const levelsKey = () => Object.values(looksOf()).join();

export const rowOf = async (id) => (await getJson(path(`/rows/${id}`))).row;

/** Return the rows of those ids that there are, in the order of the ids. */
export async function rowsOf(ids, fields = {}, options = {}) {
	const { rows } = await getJson(withFields(path("/rows"), { filter: `id IN (${ids.join(", ")})`, limit: ids.length, ...fields }), options);
	const byId = new Map(rows.map((row) => [row.id, row]));
	return ids.map((id) => byId.get(id)).filter(Boolean);
}

/** Refuse a row without a stretch of sound, as imported vectors are, before the server does. */
function requireSound(row) {
	if (row.end_s <= row.start_s) throw new ApiError(410, { code: "no_sound" });
}

export async function pictureOf(row, { width, height, context }, signal) {
	requireSound(row);
	const fields = { width, height, context: context || null, ...looksOf(), v: row.v };
	return pictureAt(withFields(path(`/rows/${row.id}/spectrogram.png`), fields), signal, width > MAX_CARD_WIDTH ? "large" : "picture");
}

export function pictureAt(address, signal, kind = "picture") {
	return once(pictures, kind, address, signal, async ({ bytes, headers }) => {
		const picture = await readPng(bytes), rate = numberOf(headers, "X-Rate") || state.model?.sample_rate || 16_000;
		return [{ ...picture, rate, start_s: numberOf(headers, "X-Start-S"), end_s: numberOf(headers, "X-End-S") }, picture.levels.length];
	});
}

/** Return the sound of a row with `context` seconds on each side: {buffer, start_s} of its recording. */
export async function soundOf(row, context = 0, signal) {
	requireSound(row);
	const address = withFields(path(`/rows/${row.id}/audio`), { context: context || null, format: formatOf(), v: row.v });
	return soundAt(address, signal, Math.max(0, row.start_s - context));
}

export function soundAt(address, signal, start_s = 0) {
	return once(sounds, "sound", address, signal, async ({ bytes, headers }) => {
		const buffer = await decode(bytes);
		return [{ buffer, start_s: numberOf(headers, "X-Start-S") ?? start_s }, buffer.length * buffer.numberOfChannels * 4];
	});
}

/** Sounds come as WAV from this machine and as FLAC over a network. */
export const formatOf = () => (["localhost", "127.0.0.1", "[::1]"].includes(location.hostname) ? "wav" : "flac");

const numberOf = (headers, name) => (headers.has(name) ? Number(headers.get(name)) : null);

/** Return what a cache has of an address, or what `read` makes of the answer: a value and its size. */
async function once(cache, kind, address, signal, read) {
	const known = cache.get(address), running = pending.get(address);
	if (known) return known;
	if (running && !running.signal?.aborted) return running.promise;
	const promise = fetchPart(kind, address, signal).then(read).then(([value, size]) => cache.put(address, value, size));
	pending.set(address, { promise, signal });
	try {
		return await promise;
	} finally {
		if (pending.get(address)?.promise === promise) pending.delete(address);
	}
}
