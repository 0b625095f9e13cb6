/* Recording: the microphone without what browsers do for speech. */

import { el, fill, icon, say } from "./dom.js";
import { wavOf } from "./sound.js";
import { clock, t } from "./words.js";

const MAX_S = 60;
const RAW = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const REASONS = { NotAllowedError: "mic.denied", NotFoundError: "mic.none", NotReadableError: "mic.busy", OverconstrainedError: "mic.none" };

let stop = null;

export async function toggleRecording(button, meter, { done, failed }) {
	const show = (name, words) => fill(button, icon(name), el("span", words)), words = (time) => t("record.stop", { s: clock(time) });
	const finish = () => {
		if (!stop) return;
		const file = stop();
		stop = null;
		meter.hidden = true;
		button.ariaPressed = null;
		show("mic", t("record"));
		done(file);
	};
	if (stop) return finish();
	try {
		stop = await startRecording((level, time) => {
			meter.value = level;
			button.lastChild.textContent = words(time);
		}, (problem) => (finish(), failed(problem)));
	} catch (error) {
		return failed(error.message);
	}
	meter.hidden = false;
	button.ariaPressed = "true";
	show("stop", words(0));
	say(t("record.on"));
}

/** Record; `onLevel` gets level and seconds, `onEnd` a text if the microphone is unplugged, "" at the longest time. */
async function startRecording(onLevel, onEnd) {
	const stream = await navigator.mediaDevices.getUserMedia({ audio: RAW }).catch((error) => {
		throw new Error(t(REASONS[error.name] ?? "mic.busy"));
	});
	const context = new AudioContext(), pieces = [], [track] = stream.getAudioTracks();
	await context.audioWorklet.addModule(new URL("./tap.js", import.meta.url));
	const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
	let length = 0;
	tap.port.onmessage = ({ data }) => {
		pieces.push(data);
		length += data.length;
		onLevel(data.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0), length / context.sampleRate);
		if (length >= MAX_S * context.sampleRate) onEnd("");
	};
	context.createMediaStreamSource(stream).connect(tap);
	track.addEventListener("ended", () => onEnd(t("mic.unplugged")));
	return () => {
		tap.port.onmessage = null;
		track.stop();
		context.close();
		const samples = new Float32Array(length);
		pieces.reduce((at, piece) => (samples.set(piece, at), at + piece.length), 0);
		return new File([wavOf([samples], context.sampleRate)], t("record.name"), { type: "audio/wav" });
	};
}
