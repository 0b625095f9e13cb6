/* Voices: the ways in which a sound is played, with those of pieces.js. Each has now() in seconds of the sound, loop(is) and stop(). */

import { wavOf } from "./wav.js";

/** A buffer, with an exact loop; its pitch follows its speed. `out` is the node that takes the sound. */
export function bufferVoice(audio, out, buffer, { from, to, at, speed, loop }, ended) {
  const node = new AudioBufferSourceNode(audio, { buffer, loop, loopStart: from, loopEnd: to, playbackRate: speed });
  const started = audio.currentTime;
  node.connect(out);
  if (loop) node.start(0, at);
  else node.start(0, at, Math.max(0, to - at));
  node.onended = ended;
  return {
    now() {
      const run = (audio.currentTime - started) * speed + at;
      return !node.loop || run < to ? Math.min(run, to) : from + ((run - from) % (to - from));
    },
    loop: (is) => (node.loop = is),
    stop() {
      node.onended = null;
      node.stop();
    },
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
