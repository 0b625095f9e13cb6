/* Searching: a question -> the request, and the rows or hits of its answer. */

import { getJson, path, post, withFields } from "./api.js";
import { rowsOf } from "./rows.js";
import { noQuestion, state } from "./state.js";

export const PAGES = [48, 240, 1000]; // hits that are asked for, one after the other while scrolling
const DIVERSITY = 0.5; // weight of similarity against difference, as `embedx search --diverse 0.5`
const FIRST_ROWS = 12; // shown before anything is asked
const TRIED_IDS = 48; // for these rows: some ids may have been deleted

export const isAsked = ({ id, clip, text, like }) => id !== null || Boolean(clip || text || like.length);

export function withBase({ where, view, group, diverse }, base) {
	return { ...noQuestion(), where, view, group, diverse, ...base };
}

function requestOf({ id, clip, text, like, unlike, start_s, end_s, where, view, group, diverse }, limit) {
	const body = { limit, filter: where || undefined, using: view || undefined, group_by: group || undefined }; // JSON has no undefined
	if (diverse && !group) body.diverse = DIVERSITY;
	const base = clip ? `clip:${clip}` : id;
	if (like.length || unlike.length) {
		const examples = { like: [...new Set([base, ...like])].filter((one) => one !== null), unlike: unlike.length ? unlike : undefined };
		return { ...body, ...examples };
	}
	if (clip) return { ...body, audio: base, start_s: start_s ?? undefined, end_s: end_s ?? undefined };
	return id === null ? { ...body, text } : { ...body, id };
}

/** Return {kind, hits, took_ms, more}: hits of a question, rows of a filter, or rows at random. */
export async function search(question, limit, signal) {
	if (!isAsked(question) && !question.where) return { kind: "random", hits: await randomRows(signal), took_ms: 0, more: false };
	const isLast = limit >= PAGES.at(-1);
	if (isAsked(question)) {
		const { hits, took_ms } = await post(path("/search"), requestOf(question, limit), { signal });
		return { kind: "hits", hits, took_ms, more: hits.length >= limit && !isLast };
	}
	const { rows, next } = await getJson(withFields(path("/rows"), { filter: question.where, limit }), { signal });
	return { kind: "rows", hits: rows, took_ms: 0, more: next !== null && !isLast };
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
