/* What the page gets for a row: its picture and its sound, each kept, and asked for once only. */

import { ApiError, Cache, fetchPart, getJson, path, withFields } from "./api.js";
import { readPng } from "./picture.js";
import { decode } from "./sound.js";
import { frequencies } from "./scale.js";
import { state } from "./state.js";

const MAX_CARD_WIDTH = 640; // pixels; larger pictures are those of the inspector, and come first
const pictures = new Cache(32e6); // bytes of levels
const sounds = new Cache(64e6); // bytes of samples
const pending = new Map();

/** Return the settings that change the levels of a picture, as a text that can be compared. */
export function levelsKey() {
  return Object.values(looksOf()).join();
}

export function rangeOf(rate) {
  return { ...frequencies(rate, state.settings), scale: state.settings.scale };
}

/** Return the settings that a picture of the server depends on. */
export function looksOf() {
  const { fmin, fmax, scale, window_ms } = state.settings;
  return { scale, fmin: fmin || null, fmax: fmax || null, window_ms: window_ms || null };
}

function pictureAddress(row, { width, height, context }) {
  return withFields(path(`/rows/${row.id}/spectrogram.png`), { width, height, context: context || null, ...looksOf(), v: row.v });
}

export async function rowOf(id) {
  return (await getJson(path(`/rows/${id}`))).row;
}

/** Return the rows of some ids, in the order of the ids in the store. */
export async function rowsOf(ids, fields = {}, options = {}) {
  return (await getJson(withFields(path("/rows"), { filter: `id IN (${ids.join(", ")})`, limit: ids.length, ...fields }), options)).rows;
}

/** Refuse a row without a stretch of sound, as imported vectors are, before the server does. */
function requireSound(row) {
  if (row.end_s <= row.start_s) throw new ApiError(410, { code: "no_sound" });
}

/** Return the picture of a row: {width, height, levels, rate}. */
export async function pictureOf(row, size, signal) {
  requireSound(row);
  return pictureAt(pictureAddress(row, size), signal, size.width > MAX_CARD_WIDTH ? "large" : "picture");
}

export function pictureAt(address, signal, kind = "picture") {
  return once(pictures, address, signal, async () => {
    const { bytes, headers } = await fetchPart(kind, address, signal);
    const picture = await readPng(bytes);
    const rate = Number(headers.get("X-Rate")) || state.model?.sample_rate || 16_000;
    Object.assign(picture, { rate, start_s: numberOf(headers, "X-Start-S"), end_s: numberOf(headers, "X-End-S") });
    return [picture, picture.levels.length];
  });
}

/** Return the sound of a row with `context` seconds on each side: {buffer, start_s} of its recording. */
export async function soundOf(row, context = 0, signal) {
  requireSound(row);
  const fields = { context: context || null, format: formatOf(), v: row.v };
  const address = withFields(path(`/rows/${row.id}/audio`), fields);
  return soundAt(address, signal, Math.max(0, row.start_s - context));
}

export function soundAt(address, signal, start_s = 0) {
  return once(sounds, address, signal, async () => {
    const { bytes, headers } = await fetchPart("sound", address, signal);
    const buffer = await decode(bytes);
    const sound = { buffer, start_s: numberOf(headers, "X-Start-S") ?? start_s };
    return [sound, buffer.length * buffer.numberOfChannels * 4];
  });
}

/** Sounds come as WAV from this machine and as FLAC over a network. */
export const formatOf = () => (["localhost", "127.0.0.1", "[::1]"].includes(location.hostname) ? "wav" : "flac");

const numberOf = (headers, name) => (headers.has(name) ? Number(headers.get(name)) : null);

async function once(cache, key, signal, load) {
  const known = cache.get(key);
  if (known) return known;
  const running = pending.get(key);
  if (running && !running.signal?.aborted) return running.promise;
  const promise = load().then(([value, size]) => cache.put(key, value, size));
  pending.set(key, { promise, signal });
  try {
    return await promise;
  } finally {
    if (pending.get(key)?.promise === promise) pending.delete(key);
  }
}
