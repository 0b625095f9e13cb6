/* Recording: the microphone without what browsers do for speech, a level meter, and a WAV file at the end. */

import { el, fill, icon, say } from "./dom.js";
import { wavOf } from "./wav.js";
import { clock, t } from "./words.js";

const MAX_S = 60;
const RAW = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const REASONS = { NotAllowedError: "mic.denied", NotFoundError: "mic.none", NotReadableError: "mic.busy", OverconstrainedError: "mic.none" };

let recorder = null;

/** Begin or end a recording with a button; `done` gets the file, `failed` a text. */
export async function toggleRecording(button, meter, { done, failed }) {
  if (recorder) return finish(button, meter, done);
  try {
    recorder = await startRecording((level, time) => {
      meter.value = level;
      button.lastChild.textContent = t("record.stop", { s: clock(time) });
    }, (problem) => (finish(button, meter, done), failed(problem)));
  } catch (error) {
    return failed(error.message);
  }
  meter.hidden = false;
  button.ariaPressed = "true";
  fill(button, icon("stop"), el("span", t("record.stop", { s: clock(0) })));
  say(t("record.on"));
}

function finish(button, meter, done) {
  if (!recorder) return;
  const file = recorder.stop();
  recorder = null;
  meter.hidden = true;
  button.removeAttribute("aria-pressed");
  fill(button, icon("mic"), el("span", t("record")));
  done(file);
}

/** Start to record; `onLevel` gets level and seconds, `onEnd` a text if the microphone is unplugged, "" at the longest time. */
async function startRecording(onLevel, onEnd) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: RAW }).catch((error) => {
    throw new Error(t(REASONS[error.name] ?? "mic.busy"));
  });
  const context = new AudioContext();
  await context.audioWorklet.addModule(new URL("./tap.js", import.meta.url));
  const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
  const pieces = [];
  let length = 0;
  tap.port.onmessage = ({ data }) => {
    pieces.push(data);
    length += data.length;
    onLevel(data.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0), length / context.sampleRate);
    if (length >= MAX_S * context.sampleRate) onEnd("");
  };
  context.createMediaStreamSource(stream).connect(tap);
  const [track] = stream.getAudioTracks();
  track.addEventListener("ended", () => onEnd(t("mic.unplugged")));
  return {
    stop() {
      tap.port.onmessage = null;
      track.stop();
      context.close();
      const samples = new Float32Array(length);
      pieces.reduce((at, piece) => (samples.set(piece, at), at + piece.length), 0);
      return new File([wavOf([samples], context.sampleRate)], t("record.name"), { type: "audio/wav" });
    },
  };
}
