/* What the page gets for a row, each picture and sound once; and searching. */

import { ApiError, Cache, fetchPart, getJson, path, post, withFields } from "./api.js";
import { readPng } from "./picture.js";
import { frequencies } from "./scale.js";
import { decode } from "./sound.js";
import { noQuestion, state } from "./state.js";

const MAX_CARD_WIDTH = 640; // pixels; larger pictures are those of the inspector, and come first
const pictures = new Cache(32e6); // bytes of levels
const sounds = new Cache(64e6); // bytes of samples
const pending = new Map();

export const rangeOf = (rate) => ({ ...frequencies(rate, state.settings), scale: state.settings.scale });

export const DRAWN_BY = "scale fmin fmax window_ms"; // settings that the levels of a picture depend on

export const looksOf = () => Object.fromEntries(DRAWN_BY.split(" ").map((name) => [name, state.settings[name] || null]));

export const rowOf = async (id) => (await getJson(path(`/rows/${id}`))).row;

export async function rowsOf(ids, fields = {}, options = {}) {
	const { rows } = await getJson(withFields(path("/rows"), { ids, ...fields }), options);
	const byId = new Map(rows.map((row) => [row.id, row]));
	return ids.map((id) => byId.get(id)).filter(Boolean);
}

export async function countRows(filter, signal) {
	return filter ? (await post(path("/count"), { filter }, { signal })).rows : state.collection?.rows ?? 0;
}

/** Refuse a row without sound, as imported vectors are. */
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

/** Return what a cache has of an address, or what `read` makes of the answer. */
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

/* Searching: a question -> the request, and the rows or hits of its answer. */

export const PAGES = [48, 240, 1000]; // hits that are asked for while scrolling
const DIVERSITY = 0.5; // as `embedx search --diverse 0.5`
const FIRST_ROWS = 12; // shown before anything is asked
const TRIED_IDS = 48; // some may have been deleted

export const isAsked = ({ id, clip, text, like }) => id !== null || Boolean(clip || text || like.length);

/** Return another question, under the conditions of now. */
export function withBase(base) {
	const { where, view, group, diverse } = state.question;
	return { ...noQuestion(), where, view, group, diverse, ...base };
}

function requestOf({ id, clip, text, like, unlike, start_s, end_s, where, view, group, diverse }, limit) {
	const body = { limit, filter: where || undefined, using: view || undefined, group_by: group || undefined }; // JSON has no undefined
	if (diverse && !group) body.diverse = DIVERSITY;
	const base = clip ? `clip:${clip}` : id;
	if (like.length || unlike.length) return { ...body, like: [...new Set([base, ...like])].filter((one) => one !== null), unlike: unlike.length ? unlike : undefined };
	if (clip) return { ...body, audio: base, start_s: start_s ?? undefined, end_s: end_s ?? undefined };
	return id === null ? { ...body, text } : { ...body, id };
}

/** Return {kind, hits, took_ms, more}: hits of a question, rows of a filter, or rows at random. */
export async function search(question, limit, signal) {
	if (!isAsked(question) && !question.where) return { kind: "random", hits: await randomRows(signal) };
	const isLast = limit >= PAGES.at(-1);
	if (isAsked(question)) {
		const { hits, took_ms } = await post(path("/search"), requestOf(question, limit), { signal });
		return { kind: "hits", hits, took_ms, more: hits.length >= limit && !isLast };
	}
	const { rows, next } = await getJson(withFields(path("/rows"), { filter: question.where, limit }), { signal });
	return { kind: "rows", hits: rows, more: next !== null && !isLast };
}

/** Return rows at random, so that the page works before anything is asked. */
async function randomRows(signal) {
	const total = state.collection.rows;
	if (!total) return [];
	const ids = Array.from({ length: TRIED_IDS }, () => Math.floor(Math.random() * (total + 1)));
	const rows = await rowsOf([...new Set(ids)], {}, { signal });
	if (!rows.length) return (await getJson(withFields(path("/rows"), { limit: FIRST_ROWS }), { signal })).rows;
	return rows.slice(0, FIRST_ROWS);
}
