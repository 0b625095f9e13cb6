/* A recording in pieces: a voice that asks for the next one while one plays; see voices.js. */

import { pause } from "./api.js";
import { begin, stop } from "./sound.js";
import { state } from "./state.js";

const FIRST_S = 5, PIECE_S = 30; // of a recording: the first piece is there soon, the others are few
const AHEAD_S = 15; // left to play, when the next piece is asked for
const LEAD_S = 0.02; // between a piece that is there and its sound

/** Play a recording under a key from a second of it to its end; `pieceOf(from, to, signal)` gets a buffer, `failed` an error. */
export function playRecording(key, pieceOf, { at, to, failed }) {
  begin(key, { from: 0, to, band: null, level: 1 },
    (audio, out, done) => piecesVoice(audio, out, pieceOf, { at, to, speed: state.settings.speed }, done, (error) => (stop(), failed(error))),
    (now) => playRecording(key, pieceOf, { at: now, to, failed }));
}

/** A recording in pieces without a gap between them: `pieceOf(from, to)` gets a buffer. */
function piecesVoice(audio, out, pieceOf, { to, at, speed }, ended, failed) {
  const playing = new Set(), end = new AbortController();
  let anchor = null; // a moment, and the place at it
  const run = async () => {
    for (let place = at, time = 0, length = FIRST_S; place < to - LEAD_S; length = PIECE_S) {
      const buffer = await pieceOf(place, Math.min(to, place + length), end.signal);
      if (time < audio.currentTime) anchor = [(time = audio.currentTime + LEAD_S), place]; // the first one, or one that came late
      const node = new AudioBufferSourceNode(audio, { buffer, playbackRate: speed });
      node.connect(out);
      node.start(time);
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
    stop() {
      end.abort();
      for (const node of playing) {
        node.onended = null;
        node.stop();
      }
    },
  };
}
