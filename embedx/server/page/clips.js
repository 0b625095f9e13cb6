/* Dropped and recorded sounds, kept by the server for a while, so that none is sent twice. */

import { post } from "./api.js";
import { decode, monoOf } from "./sound.js";
import { state } from "./state.js";
import { pictureAt, rangeOf, soundAt } from "./rows.js";
import { number, size as sizeOf, t } from "./words.js";

const MAX_BYTES = 64 << 20; // the limit of a body of the service
const MAX_DECODED_BYTES = 48 << 20; // of a file that is decoded here: ten minutes at 44.1 kHz, mono
const PICTURE = { width: 1600, height: 96 };
const WAVE_BINS = 1600;
const DEFAULT_STRETCH_S = 10; // of a long file, where the model has no window

const worker = startWorker();

/** Return {name, title, file, duration_s, rate, picture, peaks, buffer, loudest_s, wrong}. */
export async function readFile(file) {
	const fail = (key, values) => {
		throw new Error(t(key, { name: file.name, ...values }));
	};
	if (file.size > MAX_BYTES) fail("err.size", { size: sizeOf(file.size), limit: sizeOf(MAX_BYTES) });
	const bytes = new Uint8Array(await file.arrayBuffer().catch(() => fail("err.folder")));
	if (!bytes.length) fail("err.empty");
	const buffer = bytes.length <= MAX_DECODED_BYTES ? await decode(bytes).catch(() => null) : null;
	return withSound({ name: null, title: file.name, file: new Blob([bytes]) }, buffer);
}

async function withSound(clip, buffer) {
	Object.assign(clip, { buffer });
	if (buffer) Object.assign(clip, { duration_s: buffer.duration, rate: buffer.sampleRate }, await draw(buffer));
	return Object.assign(clip, { wrong: buffer ? problemOf(clip) : "" });
}

const addressOf = (name, rest) => `v1/clips/${encodeURIComponent(name)}/${rest}`;

/** Send a sound to the server, once; its name there stands for it in questions. */
export async function keepOnServer(clip) {
	if (clip.name) return;
	const form = new FormData();
	form.append("file", clip.file, "sound");
	const facts = await post("v1/clips", form).catch((error) => {
		throw [415, 422].includes(error.status) ? new Error(t("err.format", { name: clip.title })) : error;
	});
	Object.assign(clip, { name: facts.clip, file: null });
	state.clips.set(clip.name, clip);
	if (clip.buffer) return;
	Object.assign(clip, { duration_s: facts.duration_s, rate: facts.sample_rate, loudest_s: 0 });
	await withSound(clip, await soundAt(addressOf(clip.name, "audio")).then(({ buffer }) => buffer, () => null));
	clip.picture ??= await pictureAt(addressOf(clip.name, "spectrogram.png?width=1000&height=96")).catch(() => null);
}

export async function fetchClip(name) {
	const { buffer } = await soundAt(addressOf(name, "audio"));
	const clip = await withSound({ name, title: t("query.sound") }, buffer);
	state.clips.set(name, clip);
	return clip;
}

export async function redraw(clip) {
	if (clip.buffer) Object.assign(clip, await draw(clip.buffer));
}

function draw(buffer) {
	const samples = monoOf(buffer), rate = buffer.sampleRate, { port1, port2 } = new MessageChannel();
	const { fmin, fmax, scale, window_ms } = state.settings;
	worker.postMessage({ samples, rate, bins: WAVE_BINS, stretch_s: stretchOf(), fmin, fmax, scale, window_ms, ...PICTURE }, [samples.buffer, port2]);
	return new Promise((resolve) => {
		port1.onmessage = ({ data: { levels, peaks, loudest_s } }) =>
			resolve({ picture: { ...PICTURE, levels, rate, range: rangeOf(rate) }, peaks, loudest_s });
	});
}

/** Start the worker; the one policy of trusted types admits scripts of this host only. */
function startWorker() {
	const address = new URL("./spectrum.js", import.meta.url).href;
	const policy = globalThis.trustedTypes?.createPolicy("embedx", { createScriptURL: ownScript });
	return new Worker(policy ? policy.createScriptURL(address) : address, { type: "module" });
}

function ownScript(address) {
	if (new URL(address).origin !== location.origin) throw new TypeError("Scripts of other hosts are not allowed.");
	return address;
}

const recipe = () => state.model?.recipe ?? {};
const stretchOf = () => recipe().window_s || DEFAULT_STRETCH_S;

/** Return the first stretch: all of a short sound, the loudest part of a long one. */
export function firstStretch(clip) {
	const length = stretchOf(), longest = Math.max(recipe().window_s || recipe().whole_s || 0, length) * 1.5;
	if (clip.duration_s <= longest) return { start_s: null, end_s: null };
	const start = Math.min(clip.loudest_s, clip.duration_s - length), round = (value) => Math.round(value * 100) / 100;
	return { start_s: round(start), end_s: round(start + length) };
}

function problemOf(clip) {
	const shortest = recipe().min_s ?? 0;
	if (clip.duration_s < shortest) return t("err.short", { s: number(clip.duration_s), min: number(shortest) });
	return clip.peaks?.every((value) => value === 0) ? t("err.silent") : "";
}
