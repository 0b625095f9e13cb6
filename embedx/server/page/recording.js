/* The recording of a row as a whole: its picture, and a player that gets its sound in pieces. */

import { path, withFields } from "./api.js";
import { canvas, clamp, consume, el, iconButton, shareAt, showAt, showPlays, warn } from "./dom.js";
import { paint } from "./picture.js";
import { formatOf, looksOf, pictureAt, soundAt } from "./rows.js";
import { begin, piecesVoice, stop, watch } from "./sound.js";
import { on, state } from "./state.js";
import { clock, messageOf, t } from "./words.js";

const TILE_S = 600; // of a picture: the server gives up to ten minutes at once
const MAX_TILES = 12; // two hours; of a longer recording only the rows are shown
const SIZE = { width: 1000, height: 48 };
const STEP_S = 5; // of the arrow keys; with Shift ten times as much

let shown = null; // what is shown: {key, end, at, picture, ...elements}

const isPlaying = () => shown !== null && state.playing?.key === shown.key;

watch((playing, at) => isPlaying() && showPlace(at));
on("playing", () => shown && showPlays(shown.button, isPlaying(), t("recording.play")));
on("settings", () => shown?.picture && paint(shown.canvas, shown.picture, state.settings));

/** Return the elements for the recording of a row, of which the server gives the facts; they begin at the row. */
export function showRecording(row, { duration_s: end, v }) {
	const address = path(`/recordings/${encodeURIComponent(row.recording)}`);
	const mine = { key: `recording${row.recording}`, address, v, end, at: row.start_s, picture: null, canvas: canvas(), head: el("div.playhead"), button: iconButton("play", t("recording.play"), toggle) };
	mine.slider = el("div.picture.loading", { role: "slider", tabindex: 0, "aria-label": t("recording.place"), "aria-valuemin": 0, "aria-valuemax": Math.ceil(end), click: (event) => start(shareAt(mine.slider, event) * end), keydown: step }, mine.canvas, mine.head);
	shown = mine;
	showPlays(mine.button, isPlaying(), t("recording.play"));
	if (!isPlaying()) showPlace(row.start_s);
	fetchOverview(mine).then((picture) => picture && paint(mine.canvas, (mine.picture = picture), state.settings), () => null)
		.then(() => mine.slider.classList.remove("loading"));
	return [mine.button, mine.slider];
}

/** Return the picture of all of a recording, joined from tiles; null if it is too long. */
async function fetchOverview({ address, v, end }) {
	const count = Math.ceil(end / TILE_S), width = Math.round(SIZE.width / count), { height } = SIZE;
	if (count > MAX_TILES) return null;
	const levels = new Uint8Array(width * count * height);
	await Promise.all(Array.from({ length: count }, async (_, i) => {
		const fields = { start_s: (i * end) / count, end_s: ((i + 1) * end) / count, width, height, ...looksOf(), v };
		const tile = await pictureAt(withFields(`${address}/spectrogram.png`, fields));
		for (let line = 0; line < height; line++) levels.set(tile.levels.subarray(line * width, (line + 1) * width), (line * count + i) * width);
	}));
	return { width: width * count, height, levels };
}

function showPlace(at) {
	const { slider, head, end } = shown, isNew = clock(at) !== clock(shown.at);
	shown.at = at;
	showAt(head, at / end);
	if (!isNew && slider.hasAttribute("aria-valuenow")) return;
	slider.ariaValueNow = Math.floor(at);
	slider.ariaValueText = t("player.at", { at: clock(at), of: clock(end) });
}

function toggle() {
	if (isPlaying()) stop();
	else start(shown.at);
}

function start(at) {
	const { key, address, v, end } = shown;
	const pieceOf = async (start_s, end_s, signal) => (await soundAt(withFields(`${address}/audio`, { start_s, end_s, format: formatOf(), v }), signal)).buffer;
	const failed = (error) => (stop(), warn(messageOf(error)));
	const play = (from) => begin(key, { from: 0, to: end, band: null, level: 1 },
		(audio, out, done) => piecesVoice(audio, out, pieceOf, { at: from, to: end, speed: state.settings.speed }, done, failed), play);
	play(at < end ? Math.floor(at * 10) / 10 : 0); // round, so that a piece is asked for once
}

function step(event) {
	const direction = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
	const to = direction ? shown.at + direction * STEP_S * (event.shiftKey ? 10 : 1) : { Home: 0, End: shown.end }[event.key];
	if (event.key === " " || event.key === "Enter") toggle();
	else if (to === undefined) return;
	else if (isPlaying() && to < shown.end) start(Math.max(0, to));
	else stop(), showPlace(clamp(to, 0, shown.end));
	consume(event);
}
