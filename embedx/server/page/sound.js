/* Sound: one context, one player. Buffers and not media elements: loops are exact, starts at once. */

import { clamp } from "./scale.js";
import { on, set, state } from "./state.js";

const LEAD_S = 0.01; // before a sound begins, so that the time of its end is exact
const FADE_S = 0.005; // so that a start and an end do not click
const PEAK = 10 ** (-3 / 20); // -3 dB: what "level" brings the peak of a sound to
const MAX_GAIN = 10 ** (30 / 20);
const DEFAULT_RATE = 48_000;
const SPEEDS = [0.1, 0.25, 0.5, 0.75, 1, 1.5, 2];
const STILL_MS = 250; // between two steps of the playhead with reduced motion

let context = null, out = null, voice = null;
const watchers = [];

function open() {
	if (!context) {
		context = new AudioContext({ latencyHint: "interactive" });
		if (navigator.audioSession) navigator.audioSession.type = "playback";
		const volume = new GainNode(context, { gain: state.settings.volume });
		const limiter = new DynamicsCompressorNode(context, { threshold: -1, knee: 0, ratio: 20, attack: 0.001, release: 0.05 });
		limiter.connect(volume).connect(context.destination);
		out = { limiter, volume };
	}
	if (context.state === "suspended") context.resume();
	return context;
}

/** Return the sample rate of a file: decoding must not turn 384 kHz into 48. */
function rateOf(bytes) {
	const view = new DataView(bytes.buffer);
	const word = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
	if (word(0) === "RIFF") {
		for (let at = 12, size; at + 16 <= bytes.length; at += 8 + size + (size & 1)) {
			size = view.getUint32(at + 4, true);
			if (word(at) === "fmt ") return view.getUint32(at + 12, true);
		}
	}
	if (word(0) === "fLaC" && bytes.length > 21) return view.getUint32(17) >>> 12;
	if (word(0) === "OggS" && bytes.length > 48 && word(29) === "vorb") return view.getUint32(40, true);
	return DEFAULT_RATE;
}

export async function decode(bytes) {
	const rate = rateOf(bytes), own = rate >= 3000 && rate <= 768_000 ? rate : DEFAULT_RATE; // what browsers allow
	return new OfflineAudioContext(1, 1, own).decodeAudioData(bytes.slice().buffer);
}

const channelsOf = (buffer) => Array.from({ length: buffer.numberOfChannels }, (_, channel) => buffer.getChannelData(channel));

const partsOf = (buffer, ...ends) => channelsOf(buffer).map((samples) => samples.subarray(...ends.map((time) => Math.round(time * buffer.sampleRate))));

export function monoOf(buffer) {
	const mono = new Float32Array(buffer.length), channels = channelsOf(buffer);
	for (const samples of channels) for (let i = 0; i < mono.length; i++) mono[i] += samples[i] / channels.length;
	return mono;
}

/** Play the seconds `from` to `to` of a sound under a key, beginning `at`, within a band [low, high] in Hz. */
export function play(key, buffer, { from = 0, to = buffer.duration, at = from, band = null, ended = null } = {}) {
	const { speed, loop, pitch } = state.settings, make = pitch && speed !== 1 ? pitchVoice : bufferVoice;
	begin(key, { from, to, band, level: gainOf(buffer, from, to) },
		(audio, out, done) => make(audio, out, buffer, { from, to, at, speed, loop }, () => done() || ended?.()),
		(now) => play(key, buffer, { from, to, at: now, band, ended }));
}

const tempo = () => `${state.settings.speed} ${state.settings.pitch}`;

/** Play with a voice that `make` returns; `again` plays the same anew from a place. */
export function begin(key, options, make, again) {
	stop();
	show(prepare(key, options, make, again));
}

/** Let a whole sound follow the one under a key without a gap; `begun` is called when it does. */
export function follow(before, key, buffer, { begun, ended }) {
	const { speed, loop } = state.settings, to = buffer.duration, when = voice?.end;
	if (!isPlaying(before) || !when || loop) return;
	voice.next = prepare(key, { from: 0, to, band: null, level: gainOf(buffer, 0, to) },
		(audio, out, done) => bufferVoice(audio, out, buffer, { from: 0, to, at: 0, speed, loop, when }, () => done() || ended()),
		(now) => play(key, buffer, { at: now, ended }), false);
	voice.next.begun = begun;
}

function prepare(key, { from, to, band, level }, make, again, isFaded = true) {
	const audio = open(), gain = new GainNode(audio, { gain: isFaded ? 0 : level }), chain = [...filtersOf(audio, band), gain, out.limiter];
	if (isFaded) {
		gain.gain.setValueAtTime(0, audio.currentTime + LEAD_S);
		gain.gain.linearRampToValueAtTime(level, audio.currentTime + LEAD_S + FADE_S);
	}
	chain.reduce((before, after) => (before.connect(after), after));
	const mine = make(audio, chain[0], () => mine === voice && goOn());
	return Object.assign(mine, { again, gain, tempo: tempo(), playing: { key, from, to } });
}

function show(next) {
	voice = next;
	set({ playing: voice.playing });
	tick(next);
}

/** At the end of a sound, go on with the one that follows; return whether there is one. */
function goOn() {
	const { next } = voice;
	if (!next) return void stop();
	voice.gain.disconnect();
	show(next);
	next.begun();
	return true;
}

function end(one) {
	one?.stop();
	one?.gain.disconnect();
}

/** Return two high-pass and two low-pass filters: 24 dB an octave outside of a band. */
function filtersOf(audio, band) {
	const types = band ? ["highpass", "lowpass"] : [];
	return types.flatMap((type, i) => [1, 2].map(() => new BiquadFilterNode(audio, { type, frequency: Math.min(band[i], audio.sampleRate / 2), Q: Math.SQRT1_2 })));
}

function gainOf(buffer, from, to) {
	if (!state.settings.level) return 1;
	const peak = Math.max(...partsOf(buffer, from, to).map((samples) => samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0)));
	return peak ? Math.min(MAX_GAIN, PEAK / peak) : 1;
}

export const isPlaying = (key) => state.playing?.key === key;

export function stop() {
	if (!voice) return false;
	end(voice.next);
	end(voice);
	voice = null;
	set({ playing: null });
	return true;
}

/** Call a function with the position while a sound plays: every frame, or 4 times a second with reduced motion. */
export const watch = (watcher) => watchers.push(watcher);

function tick(mine) {
	if (voice !== mine) return;
	for (const watcher of watchers) watcher(state.playing, mine.now());
	const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches, again = () => tick(mine);
	if (isStill) setTimeout(again, STILL_MS);
	else requestAnimationFrame(again);
}

export function nextSpeed(speed, direction) {
	const place = SPEEDS.includes(speed) ? SPEEDS.indexOf(speed) : SPEEDS.indexOf(1);
	return SPEEDS[clamp(place + direction, 0, SPEEDS.length - 1)];
}

on("volume loop speed pitch chain", () => {
	if (out) out.volume.gain.value = state.settings.volume;
	if (!voice) return;
	voice.loop(state.settings.loop);
	if (state.settings.loop || !state.settings.chain) voice.next = void end(voice.next);
	if (voice.tempo !== tempo()) voice.again(voice.now());
});

/* Voices: the ways in which a sound is played. Each has now() in seconds of the sound, loop(is) and stop(). */

export function startNode(audio, out, options, ...when) {
	const node = new AudioBufferSourceNode(audio, options);
	node.connect(out);
	node.start(...when);
	return node;
}

export function stopNode(node) {
	node.onended = null;
	node.stop();
}

/** A buffer, with an exact loop; its pitch follows its speed. */
function bufferVoice(audio, out, buffer, { from, to, at, speed, loop, when = audio.currentTime + LEAD_S }, ended) {
	const length = Math.max(0, to - at);
	const node = startNode(audio, out, { buffer, loop, loopStart: from, loopEnd: to, playbackRate: speed }, when, at, ...(loop ? [] : [length]));
	node.onended = () => ((node.onended = null), ended()); // some browsers tell it twice
	return {
		end: when + length / speed,
		now() {
			const run = Math.max(0, audio.currentTime - when) * speed + at;
			return !node.loop || run < to ? Math.min(run, to) : from + ((run - from) % (to - from));
		},
		loop: (is) => (node.loop = is),
		stop: () => stopNode(node),
	};
}

/** A stretch whose pitch stays: in a media element, which loops with a short gap. */
function pitchVoice(audio, out, buffer, { from, to, at, speed, loop }, ended) {
	const file = URL.createObjectURL(wavOf(partsOf(buffer, from, to), buffer.sampleRate));
	const element = Object.assign(new Audio(file), { preservesPitch: true, loop, currentTime: at - from, playbackRate: speed, onended: ended });
	audio.createMediaElementSource(element).connect(out);
	element.play().catch(() => null);
	return {
		now: () => from + element.currentTime,
		loop: (is) => (element.loop = is),
		stop() {
			element.onended = null;
			element.pause();
			element.removeAttribute("src");
			element.load(); // gives the file up, before it is gone
			URL.revokeObjectURL(file);
		},
	};
}

export function wavOf(channels, rate) {
	const count = channels.length, { length } = channels[0], bytes = 2 * count * length;
	const view = new DataView(new ArrayBuffer(44 + bytes));
	const words = (at, text) => [...text].forEach((sign, i) => view.setUint8(at + i, sign.charCodeAt(0)));
	words(0, "RIFF");
	words(8, "WAVEfmt ");
	words(36, "data");
	for (const [at, value] of [[4, 36 + bytes], [16, 16], [24, rate], [28, 2 * count * rate], [40, bytes]]) view.setUint32(at, value, true);
	for (const [at, value] of [[20, 1], [22, count], [32, 2 * count], [34, 16]]) view.setUint16(at, value, true);
	const samples = new Int16Array(view.buffer, 44); // little-endian, as every browser's machine is
	channels.forEach((channel, c) => {
		for (let i = 0; i < length; i++) samples[i * count + c] = Math.round(32_767 * clamp(channel[i], -1));
	});
	return new Blob([view], { type: "audio/wav" });
}
