/* Dropped and recorded sounds: read, drawn and decoded here, kept by the server for a while so that none is sent twice. */

import { ApiError, post } from "./api.js";
import { decode, monoOf } from "./sound.js";
import { state } from "./state.js";
import { pictureAt, rangeOf, soundAt } from "./rows.js";
import { number, size as sizeOf, t } from "./words.js";

const MAX_BYTES = 64 << 20; // the limit of a body of the service
const MAX_DECODED_BYTES = 48 << 20; // of a file that the browser decodes too: ten minutes of 16 bits at 44.1 kHz, mono
const PICTURE = { width: 1600, height: 96 };
const WAVE_BINS = 1600;
const DEFAULT_STRETCH_S = 10; // of a long file, where the model has no window

let worker = null;
let drawn = 0;
const drawing = new Map();

export class FileError extends Error {}

/** Read a file as a sound: {name, title, file, duration_s, rate, picture, peaks, buffer, loudest_s}; a FileError says what to do. */
export async function readFile(file) {
  if (file.size > MAX_BYTES) throw new FileError(t("err.size", { name: file.name, size: sizeOf(file.size), limit: sizeOf(MAX_BYTES) }));
  const bytes = new Uint8Array(await file.arrayBuffer().catch(() => {
    throw new FileError(t("err.folder", { name: file.name }));
  }));
  if (!bytes.length) throw new FileError(t("err.empty", { name: file.name }));
  const buffer = bytes.length <= MAX_DECODED_BYTES ? await decode(bytes).catch(() => null) : null;
  const clip = { name: null, title: file.name, file: new Blob([bytes]), buffer };
  if (buffer) Object.assign(clip, { duration_s: buffer.duration, rate: buffer.sampleRate }, await draw(buffer));
  return clip;
}

/** Send a sound to the server, once; its name there stands for it in questions. */
export async function keepOnServer(clip) {
  if (clip.name) return clip;
  const form = new FormData();
  form.append("file", clip.file, "sound");
  try {
    const facts = await post("v1/clips", form);
    Object.assign(clip, { name: facts.clip, file: null, flags: facts.flags });
    state.clips.set(clip.name, clip);
    if (!clip.buffer) await fetchFromServer(clip, facts);
  } catch (error) {
    if (error instanceof ApiError && (error.status === 422 || error.status === 415)) {
      throw new FileError(t("err.format", { name: clip.title }));
    }
    throw error;
  }
  return clip;
}

export async function fetchClip(name) {
  const clip = { name, title: t("query.shared"), buffer: null };
  const { buffer } = await soundAt(`v1/clips/${encodeURIComponent(name)}/audio`);
  Object.assign(clip, { buffer, duration_s: buffer.duration, rate: buffer.sampleRate }, await draw(buffer));
  state.clips.set(name, clip);
  return clip;
}

/** Get picture and sound of what the browser cannot decode. */
async function fetchFromServer(clip, facts) {
  Object.assign(clip, { duration_s: facts.duration_s, rate: facts.sample_rate, loudest_s: 0 });
  const address = `v1/clips/${encodeURIComponent(clip.name)}`;
  const buffer = await soundAt(`${address}/audio`).then((sound) => sound.buffer, () => null);
  if (buffer) return Object.assign(clip, { buffer }, await draw(buffer));
  return Object.assign(clip, { picture: await pictureAt(`${address}/spectrogram.png?width=1000&height=96`).catch(() => null) });
}

export async function redraw(clip) {
  if (clip.buffer) Object.assign(clip, await draw(clip.buffer));
}

/** Return {picture, peaks, loudest_s} of a sound, made in the worker. */
function draw(buffer) {
  worker ??= startWorker();
  const samples = monoOf(buffer), rate = buffer.sampleRate, id = ++drawn;
  const { fmin, fmax, scale, window_ms } = state.settings;
  const facts = { id, rate, bins: WAVE_BINS, stretch_s: stretchOf(), fmin, fmax, scale, window_ms, ...PICTURE };
  return new Promise((resolve) => {
    drawing.set(id, ({ levels, peaks, loudest }) =>
      resolve({ picture: { ...PICTURE, levels, rate, range: rangeOf(rate) }, peaks, loudest_s: loudest }));
    worker.postMessage({ ...facts, samples }, [samples.buffer]);
  });
}

/** Start the worker; the one policy of trusted types admits scripts of this page's own folder only. */
function startWorker() {
  const address = new URL("./spectrum.worker.js", import.meta.url).href;
  const policy = globalThis.trustedTypes?.createPolicy("embedx", { createScriptURL: ownScript });
  const started = new Worker(policy ? policy.createScriptURL(address) : address, { type: "module" });
  started.addEventListener("message", ({ data }) => {
    drawing.get(data.id)(data);
    drawing.delete(data.id);
  });
  return started;
}

function ownScript(address) {
  if (new URL(address).origin !== location.origin) throw new TypeError("Scripts of other hosts are not allowed.");
  return address;
}

function stretchOf() {
  return state.model?.recipe.window_s || DEFAULT_STRETCH_S;
}

/** Return the stretch that a new sound begins with: all of a short one, the loudest part of a long one. */
export function firstStretch(clip) {
  const length = state.model?.recipe.window_s || state.model?.recipe.whole_s || DEFAULT_STRETCH_S;
  if (clip.duration_s <= Math.max(length, stretchOf()) * 1.5) return { start_s: null, end_s: null };
  const start = Math.min(clip.loudest_s, clip.duration_s - stretchOf());
  return { start_s: round(start), end_s: round(start + stretchOf()) };
}

const round = (value) => Math.round(value * 100) / 100;

/** Return what keeps a sound from being searched, "" if nothing does. */
export function problemOf(clip) {
  const shortest = state.model?.recipe.min_s ?? 0;
  if (clip.duration_s < shortest) return t("err.short", { s: number(clip.duration_s), min: number(shortest) });
  return clip.peaks?.every((value) => value === 0) ? t("err.silent") : "";
}
