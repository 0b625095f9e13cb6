/* The worker that draws dropped and recorded sounds, so that the page never waits for a Fourier transform. */

import { levelsOf, loudestStretch, peaksOf } from "./spectrum.js";

addEventListener("message", ({ data: { id, samples, rate, bins, stretch_s, ...options } }) => {
  const levels = levelsOf(samples, rate, options);
  const peaks = peaksOf(samples, bins);
  const loudest = loudestStretch(samples, rate, stretch_s);
  postMessage({ id, levels, peaks, loudest }, [levels.buffer, peaks.buffer]);
});
