/* Decibels of a level, frequencies of a place, round numbers for an axis. */

export const clamp = (value, low = 0, high = 1) => Math.max(low, Math.min(high, value));

export const FLOOR_DB = 120; // level 0 is -120 dB; a sine of full scale is 0 dB
const MIN_HZ = 50; // of a mel scale; below it there is mostly wind and hum
const SCALES = {
	mel: [(hz) => 2595 * Math.log10(1 + hz / 700), (mel) => 700 * (10 ** (mel / 2595) - 1)],
	linear: [(hz) => hz, (hz) => hz],
};

export function frequencies(rate, { fmin = 0, fmax = 0, scale = "mel" }) {
	const low = Math.min(fmin || (scale === "mel" ? MIN_HZ : 0), rate / 2 - 1);
	return { fmin: low, fmax: clamp(fmax || rate / 2, low + 1, rate / 2) };
}

/** Return the place of a frequency between the lowest, 0, and the highest, 1. */
export function placeOf(hz, { fmin, fmax, scale }) {
	const [place] = SCALES[scale];
	return (place(hz) - place(fmin)) / (place(fmax) - place(fmin));
}

export function frequencyOf(at, { fmin, fmax, scale }) {
	const [place, frequency] = SCALES[scale];
	return frequency(place(fmin) + at * (place(fmax) - place(fmin)));
}

/** Return round frequencies for an axis: octaves on a mel scale, even steps on a linear scale. */
export function ticksOf({ fmin, fmax, scale }) {
	const step = 10 ** Math.floor(Math.log10(fmax / 2)), even = fmax / step > 10 ? 5 * step : fmax / step > 5 ? 2 * step : step;
	const ticks = Array.from({ length: 10 }, (_, i) => (scale === "mel" ? 250 * 2 ** i : even * (i + 1)));
	return ticks.filter((hz) => hz > fmin * 1.2 && hz < fmax * 0.97);
}
