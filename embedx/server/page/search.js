/* Searching: a question -> the request, and the rows or hits of its answer. */

import { getJson, path, post, withFields } from "./api.js";
import { rowsOf } from "./rows.js";
import { noQuestion, state } from "./state.js";

export const PAGES = [48, 240, 1000]; // hits that are asked for, one after the other while scrolling
const DIVERSITY = 0.5; // weight of similarity against difference, as `embedx search --diverse 0.5`
const FIRST_ROWS = 12; // shown before anything is asked
const TRIED_IDS = 48; // for these rows: some ids may have been deleted

export function isAsked(question) {
  return question.id !== null || Boolean(question.clip || question.text || question.like.length);
}

/** Return a question with another base, and without what refined the one before. */
export function withBase(question, base) {
  const { where, view, group, diverse } = question;
  return { ...noQuestion(), where, view, group, diverse, ...base };
}

function requestOf(question, limit) {
  const { id, clip, text, like, unlike, start_s, end_s } = question;
  const body = { limit };
  if (question.where) body.filter = question.where;
  if (question.view) body.using = question.view;
  if (question.group) body.group_by = question.group;
  else if (question.diverse) body.diverse = DIVERSITY;
  const base = clip ? `clip:${clip}` : id;
  if (like.length || unlike.length) {
    body.like = [...(base === null ? [] : [base]), ...like.filter((one) => one !== base)];
    if (unlike.length) body.unlike = unlike;
  } else if (clip) {
    Object.assign(body, { audio: base }, start_s === null ? {} : { start_s }, end_s === null ? {} : { end_s });
  } else if (id !== null) {
    body.id = id;
  } else {
    body.text = text;
  }
  return body;
}

/** Return {kind, hits, took_ms, more}: hits of a question, rows of a filter, or rows at random. */
export async function search(question, limit, signal) {
  if (isAsked(question)) return searchHits(question, limit, signal);
  if (question.where) return pageOfRows(question.where, limit, signal);
  return { kind: "random", hits: await randomRows(signal), took_ms: 0, more: false };
}

async function searchHits(question, limit, signal) {
  const answer = await post(path("/search"), requestOf(question, limit), { signal });
  const isMore = answer.hits.length >= limit && limit < PAGES.at(-1);
  return { kind: "hits", hits: answer.hits, took_ms: answer.took_ms, more: isMore };
}

async function pageOfRows(where, limit, signal) {
  const answer = await getJson(withFields(path("/rows"), { filter: where, limit }), { signal });
  return { kind: "rows", hits: answer.rows, took_ms: 0, more: answer.next !== null && limit < PAGES.at(-1) };
}

/** Return rows at random, the same in this visit, so that the page works before anything is asked. */
async function randomRows(signal) {
  const total = state.collection.rows;
  if (!total) return [];
  const ids = Array.from({ length: TRIED_IDS }, () => Math.floor(Math.random() * (total + 1)));
  const rows = await rowsOf([...new Set(ids)], {}, { signal });
  if (!rows.length) return (await getJson(withFields(path("/rows"), { limit: FIRST_ROWS }), { signal })).rows;
  return shuffled(rows).slice(0, FIRST_ROWS);
}

function shuffled(items) {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
