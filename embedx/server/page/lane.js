/* The lane of a dropped or recorded sound, with the stretch that is searched. */

import { ask } from "./address.js";
import { fetchClip, firstStretch, keepOnServer, readFile, redraw } from "./clips.js";
import { button, canvas, el, fill, iconButton, mutedWord, nameOf } from "./dom.js";
import { PAINTED_BY, paint, paintWave } from "./picture.js";
import { showAsked, showProblem } from "./query.js";
import { DRAWN_BY, withBase } from "./rows.js";
import { isPlaying, play, stop, watch } from "./sound.js";
import { on, set, state } from "./state.js";
import { Stretch } from "./stretch.js";
import { clock, messageOf, t } from "./words.js";

const KEY = "query";

let lane, wave, picture, stretch = null, clip = null, files = 0, newest = 0;

export function bindLane(node) {
	if (lane) return;
	lane = node;
	watch((playing, at) => playing.key === KEY && stretch?.showHead(at));
	on("playing", () => state.playing?.key !== KEY && stretch?.showHead(null));
	on(PAINTED_BY, () => clip && paintSound());
	on(DRAWN_BY, async () => clip && (await redraw(clip), paintSound()));
}

const explain = (error, name) => showProblem(messageOf(error, name));

/** Show a file, and ask what is like it; with `wait` after a button only. */
export async function takeFile(file, { wait = false } = {}) {
	const order = ++files;
	try {
		const taken = Object.assign(await readFile(file), { order });
		if (isLate(taken)) return;
		if (taken.buffer) showSound(taken, firstStretch(taken));
		if (wait) offerSearch(taken);
		else await searchWith(taken);
	} catch (error) {
		explain(error, file.name);
	}
}

function isLate({ order, duration_s }) {
	if (duration_s && order > newest) newest = order;
	return order < newest;
}

async function searchWith(taken) {
	await keepOnServer(taken);
	if (isLate(taken)) return;
	const chosen = clip === taken && stretch ? chosenStretch() : firstStretch(taken);
	ask(withBase({ clip: taken.name, ...chosen }), { focus: true });
}

function offerSearch(taken) {
	const search = button(t("record.search"), () => (search.remove(), searchWith(taken).catch((error) => explain(error, taken.title))), "primary");
	lane.querySelector(".laneline").append(search);
	search.focus();
}

export async function showClip(name, chosen) {
	try {
		const known = state.clips.get(name);
		showSound(known ?? (await fetchClip(name)), chosen);
		if (!known && clip.wrong) set({ wanted: { ...state.wanted } }); // now without an answer
	} catch (error) {
		if (state.question.clip === name) showProblem(error.status === 404 || error.status === 410 ? t("query.expired") : messageOf(error));
	}
}

export function hideSound() {
	lane.hidden = true;
	fill(lane);
	stretch = clip = null;
}

function showSound(shown, { start_s, end_s }) {
	const range = [start_s ?? 0, end_s ?? shown.duration_s];
	if (clip === shown && stretch) return stretch.set(...range);
	clip = shown;
	lane.hidden = false;
	stretch = new Stretch(clip.duration_s, range, () => ask(chosenStretch(), { replace: true }));
	wave = canvas({ class: "wave", height: 32 });
	picture = canvas();
	fill(lane,
		el("div.row.laneline",
			iconButton("play", t("query.play"), toggle), nameOf(clip.title, 60),
			mutedWord(clock(clip.duration_s, 1)), stretch.fields,
			iconButton("close", t("query.remove"), () => (stop(), ask(withBase({}))))),
		el("div.pictures", wave, picture, stretch.node));
	paintSound();
	showAsked(true);
}

/** Return the stretch as a question has it: nothing for the whole sound. */
function chosenStretch() {
	const isWhole = stretch.start <= 0 && stretch.end >= clip.duration_s, round = (value) => (isWhole ? null : Math.round(value * 1000) / 1000);
	return { start_s: round(stretch.start), end_s: round(stretch.end) };
}

function paintSound() {
	if (clip.picture) paint(picture, clip.picture, state.settings);
	if (clip.peaks) paintWave(wave, clip.peaks);
}

function toggle() {
	if (isPlaying(KEY)) return void stop();
	if (!clip.buffer) return showProblem(t("query.silent"));
	play(KEY, clip.buffer, { from: stretch.start, to: stretch.end });
}
