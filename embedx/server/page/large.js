/* The large picture of a row: axes, crosshair, band, the stretch in its context, and the player under it. */

import { isGone } from "./card.js";
import { addStyles, button, canvas, clamp, consume, debounce, el, fill, followPointer, iconButton, say, shareAt, showAt, showPlays, showText } from "./dom.js";
import { command } from "./keys.js";
import { describe, isSilent, paint } from "./picture.js";
import { levelsKey, pictureOf, rangeOf, soundOf } from "./rows.js";
import { frequencyOf, placeOf, ticksOf } from "./scale.js";
import { nextSpeed, play, stop, watch } from "./sound.js";
import { on, setSettings, state } from "./state.js";
import { addWords, clock, messageOf, number, t } from "./words.js";

await Promise.all([addWords("large"), addStyles("large")]);

const SIZE = { width: 1000, height: 256 };
const WIDER_S = 5;
const MAX_CONTEXT_S = 30;
const DRAG = 8; // pixels, from which a press is a drag

let parts, row = null, context = 0, isOwn = false, isListening = false, picture = null, band = null, isBandOn = false, request = null, told = -1, levels = "";

const keyOf = () => (row ? `large${row.id}` : "");
const isPlaying = () => state.playing?.key === keyOf();

export function bindPlayer() {
	if (isListening) return;
	isListening = true;
	on("settings", debounce(refresh, 30));
	on("playing", showPlaying);
	watch((playing, at) => playing.key === keyOf() && showPlace(at));
	const actions = {
		wider: widen, band: toggleBand, loop: () => toggle("loop"), chain: () => toggle("chain"),
		slower: () => setSpeed(-1), faster: () => setSpeed(1), brighter: () => addContrast(1), darker: () => addContrast(-1),
	};
	for (const [name, action] of Object.entries(actions)) command(name, action);
}

const addContrast = (steps) => setSettings({ contrast: state.settings.contrast + steps });

/** Return the elements of a row with seconds around it; with `own` only its stretch plays. */
export function showLarge(next, { around = 0, own = false } = {}) {
	[row, context, isOwn, band, picture, isBandOn, told] = [next, around, own, null, null, false, -1];
	const nodes = build();
	refreshPlayer();
	loadPicture();
	return nodes;
}

export const fetchPicture = (next, around, signal) => pictureOf(next, { ...SIZE, context: around }, signal).catch(() => null);
export const fetchSound = (next, around) => soundOf(next, around).catch(() => null);

export const focusPlayer = () => parts.play.focus();

function build() {
	const hidden = (name) => el(name, { hidden: true });
	const small = (words, click, attributes) => button(words, click, { class: "small", ...attributes });
	const controls = {
		play: iconButton("play", t("play"), togglePlay, "main"),
		loop: iconButton("loop", t("loop"), () => toggle("loop")),
		speed: small("", () => setSpeed(1), { title: t("speed") }),
		pitch: small(t("pitch"), () => toggle("pitch"), { title: t("pitch.tip") }),
		wider: small(t("wider"), widen),
		bandButton: small(t("band"), toggleBand, { "aria-pressed": false }),
		level: small(t("level"), () => toggle("level"), { title: t("level.tip") }),
		cross: el("p.cross", { "aria-hidden": "true" }),
	};
	const marks = {
		canvas: canvas(), stretch: hidden("div.marked"), limit: hidden("div.limit"), band: hidden("div.band"),
		note: hidden("p.note"), head: hidden("div.playhead"),
	};
	parts = {
		...controls, ...marks,
		axis: el("div.axis", { "aria-hidden": "true" }),
		picture: el("div.picture", { role: "img", "aria-label": t("picture.none"), pointermove: showCross, pointerleave: () => (parts.cross.textContent = ""), pointerdown: startDrag }, ...Object.values(marks)),
		times: el("div.scale", { "aria-hidden": "true" }),
		player: el("div.slider", { role: "slider", tabindex: 0, "aria-label": t("player"), "aria-valuemin": 0, "aria-valuenow": 0, "aria-valuemax": Math.ceil(row.end_s - row.start_s), keydown: seekByKey, click: (event) => start(timeAt(parts.player, event)) }),
	};
	return [el("div.large", parts.axis, parts.picture, parts.times, parts.player), el("div.row.player", ...Object.values(controls))];
}

function span() {
	const start = picture?.start_s ?? Math.max(0, row.start_s - context), end = picture?.end_s ?? row.end_s + context;
	return { start, end, length: end - start };
}

async function loadPicture() {
	request?.abort();
	request = new AbortController();
	const mine = row;
	parts.picture.classList.add("loading");
	try {
		const loaded = await pictureOf(row, { ...SIZE, context }, request.signal);
		if (mine !== row) return;
		picture = { ...loaded, range: rangeOf(loaded.rate) };
		paintPicture();
	} catch (error) {
		if (error.name !== "AbortError" && mine === row) note(isGone(error) ? messageOf(error) : t("picture.failed"));
	} finally {
		if (mine === row) parts.picture.classList.remove("loading");
	}
}

function note(text) {
	parts.note.textContent = text;
	parts.note.hidden = !text;
}

function paintPicture() {
	const { range } = picture, { start, length } = span(), percent = (hz) => `${100 * placeOf(hz, range)}%`;
	paint(parts.canvas, picture, state.settings);
	note(isSilent(picture) ? t("silence") : "");
	parts.picture.ariaLabel = describe(picture, length, range);
	fill(parts.axis, ...ticksOf(range).map((hz) => {
		const tick = el("span", number(hz / 1000, 2));
		tick.style.bottom = percent(hz);
		return tick;
	}), el("span.unit", "kHz"));
	fill(parts.times, ...[0, 0.25, 0.5, 0.75, 1].map((share) => el("span", clock(start + share * length, length < 20 ? 1 : 0))));
	showAt(parts.stretch, context ? (row.start_s - start) / length : null);
	parts.stretch.style.width = `${(100 * (row.end_s - row.start_s)) / length}%`;
	const hears = (state.model?.sample_rate ?? 0) / 2;
	parts.limit.hidden = !(hears && hears < range.fmax * 0.98 && hears > range.fmin);
	parts.limit.style.bottom = percent(hears);
	parts.limit.title = t("limit", { khz: number(hears / 1000, 1) });
	showBand();
}

function showCross(event) {
	if (picture) parts.cross.textContent = `${clock(timeAt(parts.picture, event), 2)}  ${number(frequencyAt(event) / 1000, 2)} kHz`;
}

const timeAt = (node, event) => span().start + shareAt(node, event) * span().length;

function frequencyAt({ clientY }) {
	const { top, height } = parts.picture.getBoundingClientRect();
	return frequencyOf(1 - clamp((clientY - top) / height), picture.range);
}

/** A click plays from there; a drag up or down chooses a band. */
function startDrag(event) {
	if (!picture) return;
	const time = timeAt(parts.picture, event), hz = frequencyAt(event), isDrag = (now) => Math.abs(now.clientY - event.clientY) >= DRAG;
	followPointer(parts.picture, event, (now) => {
		if (!isDrag(now)) return;
		band = [hz, frequencyAt(now)].sort((a, b) => a - b);
		isBandOn = true;
		showBand();
	}, (now) => {
		if (!isDrag(now)) start(time);
		else if (isPlaying()) start();
	});
}

function showBand() {
	parts.bandButton.ariaPressed = isBandOn;
	parts.band.hidden = !isBandOn;
	if (!isBandOn || !picture) return;
	const [low, high] = band.map((hz) => 100 * clamp(placeOf(hz, picture.range)));
	Object.assign(parts.band.style, { bottom: `${low}%`, height: `${high - low}%` });
	parts.bandButton.title = bandWords();
}

const bandWords = () => t("band.of", { low: number(band[0], 0), high: number(band[1], 0) });

function toggleBand() {
	if (!row || !picture) return;
	band ??= [Math.max(300, picture.range.fmin), Math.min(8000, picture.range.fmax)];
	isBandOn = !isBandOn;
	showBand();
	say(isBandOn ? bandWords() : t("band.off"));
	if (isPlaying()) start();
}

export function togglePlay() {
	if (isPlaying()) stop();
	else if (row) start();
}

/** Play the row with its context, from a time of the recording. */
export async function start(time = null) {
	const mine = row;
	try {
		const sound = await soundOf(row, context);
		if (mine !== row) return;
		const own = isOwn && time === null ? { from: row.start_s - sound.start_s, to: row.end_s - sound.start_s } : {};
		const at = time === null ? {} : { at: Math.max(0, time - sound.start_s) };
		play(keyOf(), sound.buffer, { ...own, ...at, band: isBandOn ? band : null });
	} catch (error) {
		if (error.name !== "AbortError" && mine === row) showText(parts.note, messageOf(error));
	}
}

/** Show where the sound is; the slider's value is told at most once a second. */
function showPlace(at) {
	const { length } = span(), whole = Math.floor(at);
	showAt(parts.head, Math.min(1, at / length));
	parts.player.style.setProperty("--done", `${(100 * at) / length}%`);
	if (whole === told) return;
	told = whole;
	Object.assign(parts.player, { ariaValueNow: whole, ariaValueMax: Math.ceil(length), ariaValueText: t("player.at", { at: clock(at), of: clock(length) }) });
}

function showPlaying() {
	if (!parts) return;
	showPlays(parts.play, isPlaying());
	if (!isPlaying()) parts.head.hidden = true;
}

function seekByKey(event) {
	const direction = { ArrowRight: 1, ArrowLeft: -1 }[event.key], at = Number(parts.player.ariaValueNow) || 0;
	if (event.key === " " || event.key === "Enter") togglePlay();
	else if (direction) start(span().start + Math.max(0, at + direction * (event.altKey ? 0.1 : 1)));
	else if (event.key === "Home") start(span().start);
	else return;
	consume(event);
}

function widen() {
	if (!row) return;
	context = context + WIDER_S > MAX_CONTEXT_S ? 0 : context + WIDER_S;
	[isOwn, picture] = [false, null];
	parts.wider.textContent = context ? t("wider.by", { s: context }) : t("wider");
	say(parts.wider.textContent);
	loadPicture();
	if (isPlaying()) start(row.start_s);
}

function setSpeed(direction) {
	const last = nextSpeed(state.settings.speed, direction);
	setSettings({ speed: last === state.settings.speed && direction > 0 ? 0.1 : last });
	say(t("speed.is", { x: number(state.settings.speed, 2) }));
}

function toggle(name) {
	setSettings({ [name]: !state.settings[name] });
	say(t(state.settings[name] ? "on" : "off", { what: t(name) }));
}

function refresh() {
	if (!row) return;
	refreshPlayer();
	const now = levelsKey();
	if (levels && now !== levels) loadPicture();
	else if (picture) paintPicture();
	levels = now;
}

function refreshPlayer() {
	parts.speed.textContent = `${number(state.settings.speed, 2)}×`;
	for (const name of ["loop", "level", "pitch"]) parts[name].ariaPressed = state.settings[name];
	parts.pitch.hidden = state.settings.speed === 1;
}
