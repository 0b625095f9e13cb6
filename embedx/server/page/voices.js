/* Voices: the ways in which a sound is played. Each has now() in seconds of the sound, loop(is) and stop(). */

import { pause } from "./api.js";

const FIRST_S = 5, PIECE_S = 30; // of a recording: the first piece is there soon, the others are few
const AHEAD_S = 15; // left to play, when the next piece is asked for
const LEAD_S = 0.02; // between a piece that is there and its sound

function startNode(audio, out, options, ...when) {
	const node = new AudioBufferSourceNode(audio, options);
	node.connect(out);
	node.start(...when);
	return node;
}

function stopNode(node) {
	node.onended = null;
	node.stop();
}

/** A buffer, with an exact loop; its pitch follows its speed. `out` is the node that takes the sound. */
export function bufferVoice(audio, out, buffer, { from, to, at, speed, loop }, ended) {
	const started = audio.currentTime, length = loop ? [] : [Math.max(0, to - at)];
	const node = startNode(audio, out, { buffer, loop, loopStart: from, loopEnd: to, playbackRate: speed }, 0, at, ...length);
	node.onended = ended;
	return {
		now() {
			const run = (audio.currentTime - started) * speed + at;
			return !node.loop || run < to ? Math.min(run, to) : from + ((run - from) % (to - from));
		},
		loop: (is) => (node.loop = is),
		stop: () => stopNode(node),
	};
}

/** A stretch whose pitch stays: browsers stretch time in a media element only, which loops with a short gap. */
export function pitchVoice(audio, out, buffer, { from, to, at, speed, loop }, ended) {
	const { sampleRate: rate, numberOfChannels: count } = buffer, cut = [from, to].map((time) => Math.round(time * rate));
	const file = URL.createObjectURL(wavOf(Array.from({ length: count }, (_, channel) => buffer.getChannelData(channel).subarray(...cut)), rate));
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

/** A recording in pieces without a gap between them: `pieceOf(from, to, signal)` gets a buffer. */
export function piecesVoice(audio, out, pieceOf, { to, at, speed }, ended, failed) {
	const playing = new Set(), end = new AbortController();
	let anchor = null; // a moment, and the place at it
	const run = async () => {
		for (let place = at, time = 0, length = FIRST_S; place < to - LEAD_S; length = PIECE_S) {
			const buffer = await pieceOf(place, Math.min(to, place + length), end.signal);
			if (time < audio.currentTime) anchor = [(time = audio.currentTime + LEAD_S), place]; // the first one, or one that came late
			const node = startNode(audio, out, { buffer, playbackRate: speed }, time);
			playing.add(node);
			time += buffer.duration / speed;
			place += buffer.duration;
			const isLast = place >= to - LEAD_S;
			node.onended = () => (playing.delete(node), isLast && ended());
			if (!isLast) await pause(1000 * Math.max(0, time - audio.currentTime - AHEAD_S), end.signal);
		}
	};
	run().catch((error) => end.signal.aborted || failed(error));
	return {
		now: () => (anchor ? Math.min(to, Math.max(anchor[1], (audio.currentTime - anchor[0]) * speed + anchor[1])) : at),
		loop: () => null,
		stop: () => (end.abort(), playing.forEach(stopNode)),
	};
}

/** Return a WAV file of 16 bits of channels of one length. */
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
		for (let i = 0; i < length; i++) samples[i * count + c] = Math.round(32_767 * Math.max(-1, Math.min(1, channel[i])));
	});
	return new Blob([view], { type: "audio/wav" });
}
