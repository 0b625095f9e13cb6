/* The recording of a row as a whole, with a player that gets it in pieces. */

import { pause, withFields } from "./api.js";
import { canvas, debounce, el, iconButton, shareAt, showAt, showPlays, showValue, slider, warn } from "./dom.js";
import { PAINTED_BY, paint } from "./picture.js";
import { DRAWN_BY, formatOf, looksOf, pictureAt, soundAt } from "./rows.js";
import { begin, isPlaying, startNode, stop, stopNode, watch } from "./sound.js";
import { on, state } from "./state.js";
import { clock, messageOf, t } from "./words.js";

const TILE_S = 600; // of a picture: the server gives up to ten minutes at once
const MAX_TILES = 12; // two hours; of a longer recording only the rows are shown
const SIZE = { width: 1000, height: 48 };
const STEP_S = 5; // of the arrow keys; with Shift ten times as much
const FIRST_S = 5, PIECE_S = 30; // of its sound: the first piece is there soon, the others are few
const AHEAD_S = 15; // left to play, when the next piece is asked for
const LEAD_S = 0.02; // between a piece that is there and its sound

let shown = null; // what is shown: {key, end, at, picture, ...elements}

const isMine = () => shown !== null && isPlaying(shown.key);

watch((playing, at) => isMine() && showPlace(at));
on("playing", () => shown && showButton());
on(DRAWN_BY, debounce(() => shown && showOverview(shown)));
on(PAINTED_BY, () => shown?.picture && paint(shown.canvas, shown.picture, state.settings));

const showButton = () => showPlays(shown.button, isMine(), t("recording.play"));

/** Return the elements for the recording of a row, by the facts of the server. */
export function showRecording(row, { address, duration_s: end, v }) {
	const mine = { key: address, address, v, end, at: row.start_s, picture: null, canvas: canvas(), head: el("div.playhead"), button: iconButton("play", t("recording.play"), toggle) };
	mine.slider = slider("div.picture", t("recording.place"), {
		high: Math.ceil(end), place: () => shown.at, step: ({ shiftKey }) => STEP_S * (shiftKey ? 10 : 1), press: toggle,
		move: (at) => (isMine() && at < end ? start(at) : (stop(), showPlace(Math.min(at, end)))),
		click: (event) => start(shareAt(mine.slider, event) * end),
	}, mine.canvas, mine.head);
	shown = mine;
	showButton();
	if (!isMine()) showPlace(row.start_s);
	showOverview(mine);
	return [mine.button, mine.slider];
}

async function showOverview(mine) {
	const looks = (mine.looks = looksOf());
	mine.slider.classList.add("loading");
	const picture = await fetchOverview(mine).catch(() => null);
	if (mine.looks !== looks) return; // a newer one comes
	if (picture) paint(mine.canvas, (mine.picture = picture), state.settings);
	mine.slider.classList.remove("loading");
}

/** Return the picture of a recording, joined from tiles; null if it is too long. */
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
	const { slider, head, end } = shown, isNew = clock(at) !== clock(shown.at) || !slider.ariaValueText;
	shown.at = at;
	showAt(head, at / end);
	if (isNew) showValue(slider, Math.floor(at), t("player.at", { at: clock(at), of: clock(end) }));
}

function toggle() {
	if (isMine()) stop();
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

/** A recording in pieces without a gap between them: `pieceOf(from, to, signal)` gets a buffer. */
function piecesVoice(audio, out, pieceOf, { to, at, speed }, ended, failed) {
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
