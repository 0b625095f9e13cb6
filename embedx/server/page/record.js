/* Recording: the microphone without what browsers do for speech, a level meter, and a WAV file at the end. */

import { el, fill, icon, say } from "./dom.js";
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
  button.setAttribute("aria-pressed", "true");
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
      return wavOf(pieces, length, context.sampleRate);
    },
  };
}

function wavOf(pieces, length, rate) {
  const bytes = new DataView(new ArrayBuffer(44 + 2 * length));
  const words = (at, text) => [...text].forEach((sign, i) => bytes.setUint8(at + i, sign.charCodeAt(0)));
  words(0, "RIFF");
  bytes.setUint32(4, 36 + 2 * length, true);
  words(8, "WAVEfmt ");
  [[16, 4], [1, 2], [1, 2], [rate, 4], [2 * rate, 4], [2, 2], [16, 2]].reduce((at, [value, size]) => {
    bytes[size === 4 ? "setUint32" : "setUint16"](at, value, true);
    return at + size;
  }, 16);
  words(36, "data");
  bytes.setUint32(40, 2 * length, true);
  let at = 44;
  for (const piece of pieces) {
    for (const value of piece) {
      bytes.setInt16(at, Math.round(32_767 * Math.max(-1, Math.min(1, value))), true);
      at += 2;
    }
  }
  return new File([bytes], t("record.name"), { type: "audio/wav" });
}
