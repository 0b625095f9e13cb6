/* The large picture of a row, with its player. */

import { RowPicture } from "./card.js";
import { addStyles, button, debounce, el, fill, followPointer, iconButton, say, shareAt, showAt, showPlays, showValue, slider, warn } from "./dom.js";
import { commands } from "./keys.js";
import { PAINTED_BY } from "./picture.js";
import { DRAWN_BY, soundOf } from "./rows.js";
import { clamp, frequencyOf, placeOf, ticksOf } from "./scale.js";
import { isPlaying, nextSpeed, play, stop, watch } from "./sound.js";
import { on, setSettings, state } from "./state.js";
import { addWords, clock, messageOf, number, t } from "./words.js";

await Promise.all([addWords("large"), addStyles("large")]);

export const SIZE = { width: 1000, height: 256 };
const WIDER_S = 5;
const MAX_CONTEXT_S = 30;
const DRAG = 8; // pixels, from which a press is a drag

let parts = null, row = null, context = 0, isOwn = false, isListening = false, band = null, isBandOn = false, told = -1;

const keyOf = () => (row ? `large${row.id}` : "");
const isMine = () => isPlaying(keyOf());

export function bindPlayer() {
	if (isListening) return;
	isListening = true;
	on(PAINTED_BY, debounce(() => parts?.picture.levels && paintPicture()));
	on(DRAWN_BY, debounce(() => parts && loadPicture()));
	on("speed loop level pitch", () => parts && showSettings());
	on("playing", showPlaying);
	watch((playing, at) => playing.key === keyOf() && showPlace(at));
	commands({
		wider: widen, band: toggleBand, loop: () => toggle("loop"), chain: () => toggle("chain"),
		slower: () => setSpeed(-1), faster: () => setSpeed(1), brighter: () => addContrast(1), darker: () => addContrast(-1),
	});
}

const addContrast = (steps) => setSettings({ contrast: state.settings.contrast + steps });

/** Return the elements of a row with seconds around it; with `own` only its stretch plays. */
export function showLarge(next, { around = 0, own = false } = {}) {
	parts?.picture.unload();
	[row, context, isOwn, band, isBandOn, told] = [next, around, own, null, false, -1];
	const nodes = build();
	showSettings();
	showBand();
	loadPicture();
	return nodes;
}

export const focusPlayer = () => parts.play.focus();

function build() {
	const small = (words, click, title) => button(words, click, { class: "small", title });
	const controls = {
		play: iconButton("play", t("play"), togglePlay, "main"),
		loop: iconButton("loop", t("loop"), () => toggle("loop")),
		speed: small("", () => setSpeed(1), t("speed")),
		pitch: small(t("pitch"), () => toggle("pitch"), t("pitch.tip")),
		wider: small(t("wider"), widen),
		bandButton: small(t("band"), toggleBand),
		level: small(t("level"), () => toggle("level"), t("level.tip")),
		cross: el("p.cross", { "aria-hidden": "true" }),
	};
	const marks = Object.fromEntries(["marked", "limit", "band", "playhead"].map((name) => [name, el(`div.${name}`, { hidden: true })]));
	parts = {
		...controls, ...marks,
		axis: el("div.axis", { "aria-hidden": "true" }),
		picture: new RowPicture({ pointermove: showCross, pointerleave: () => (parts.cross.textContent = ""), pointerdown: startDrag }, ...Object.values(marks)),
		times: el("div.scale", { "aria-hidden": "true" }),
		player: slider("div.slider", t("player"), {
			high: Math.ceil(row.end_s - row.start_s), place: () => Number(parts.player.ariaValueNow), step: ({ altKey }) => (altKey ? 0.1 : 1),
			move: (at) => start(span().start + at), press: togglePlay, click: (event) => start(timeAt(parts.player, event)),
		}),
	};
	return [el("div.large", parts.axis, parts.picture.node, parts.times, parts.player), el("div.row.player", ...Object.values(controls))];
}

function span() {
	const { levels } = parts.picture, start = levels?.start_s ?? Math.max(0, row.start_s - context), end = levels?.end_s ?? row.end_s + context;
	return { start, end, length: end - start };
}

async function loadPicture() {
	const { picture } = parts;
	await picture.load(row, { ...SIZE, context });
	if (picture === parts.picture && picture.levels) paintPicture();
}

function paintPicture() {
	const { picture } = parts, { range } = picture, { start, length } = span(), bottom = (hz) => `${100 * placeOf(hz, range)}%`;
	picture.paint();
	fill(parts.axis, ticksOf(range).map((hz) => el("span", { style: { bottom: bottom(hz) } }, number(hz / 1000, 2))), el("span.unit", "kHz"));
	fill(parts.times, [0, 0.25, 0.5, 0.75, 1].map((share) => el("span", clock(start + share * length, length < 20 ? 1 : 0))));
	showAt(parts.marked, context ? (row.start_s - start) / length : null);
	parts.marked.style.width = `${(100 * (row.end_s - row.start_s)) / length}%`;
	const hears = (state.model?.sample_rate ?? 0) / 2;
	parts.limit.hidden = !(hears && hears < range.fmax * 0.98 && hears > range.fmin);
	parts.limit.style.bottom = bottom(hears);
	parts.limit.title = t("limit", { khz: number(hears / 1000, 1) });
	showBand();
}

function showCross(event) {
	if (parts.picture.levels) parts.cross.textContent = `${clock(timeAt(parts.picture.node, event), 2)}  ${number(frequencyAt(event) / 1000, 2)} kHz`;
}

const timeAt = (node, event) => span().start + shareAt(node, event) * span().length;

function frequencyAt({ clientY }) {
	const { node, range } = parts.picture, { top, height } = node.getBoundingClientRect();
	return frequencyOf(1 - clamp((clientY - top) / height), range);
}

/** A click plays from there; a drag up or down chooses a band. */
function startDrag(event) {
	const { levels, node } = parts.picture;
	if (!levels) return;
	const time = timeAt(node, event), hz = frequencyAt(event), isDrag = (now) => Math.abs(now.clientY - event.clientY) >= DRAG;
	followPointer(node, event, (now) => {
		if (!isDrag(now)) return;
		band = [hz, frequencyAt(now)].sort((a, b) => a - b);
		isBandOn = true;
		showBand();
	}, (now) => {
		if (!isDrag(now)) start(time);
		else if (isMine()) start();
	});
}

function showBand() {
	parts.bandButton.ariaPressed = isBandOn;
	parts.band.hidden = !isBandOn;
	if (!isBandOn) return;
	const [low, high] = band.map((hz) => 100 * clamp(placeOf(hz, parts.picture.range)));
	Object.assign(parts.band.style, { bottom: `${low}%`, height: `${high - low}%` });
	parts.bandButton.title = bandWords();
}

const bandWords = () => t("band.of", { low: number(band[0], 0), high: number(band[1], 0) });

function toggleBand() {
	if (!parts?.picture.levels) return;
	const { fmin, fmax } = parts.picture.range;
	band ??= [Math.max(300, fmin), Math.min(8000, fmax)];
	isBandOn = !isBandOn;
	showBand();
	say(isBandOn ? bandWords() : t("band.off"));
	if (isMine()) start();
}

export function togglePlay() {
	if (isMine()) stop();
	else if (row) start();
}

export async function start(time = null) {
	const mine = row;
	try {
		const sound = await soundOf(row, context);
		if (mine !== row) return;
		const own = isOwn && time === null ? { from: row.start_s - sound.start_s, to: row.end_s - sound.start_s } : {};
		const at = time === null ? {} : { at: Math.max(0, time - sound.start_s) };
		play(keyOf(), sound.buffer, { ...own, ...at, band: isBandOn ? band : null });
	} catch (error) {
		if (mine !== row) return;
		parts.picture.explain(messageOf(error));
		warn(messageOf(error));
	}
}

/** Show where the sound is, and tell it at most once a second. */
function showPlace(at) {
	const { length } = span(), whole = Math.floor(at);
	showAt(parts.playhead, Math.min(1, at / length));
	parts.player.style.setProperty("--done", `${(100 * at) / length}%`);
	if (whole === told) return;
	told = whole;
	parts.player.ariaValueMax = Math.ceil(length);
	showValue(parts.player, whole, t("player.at", { at: clock(at), of: clock(length) }));
}

function showPlaying() {
	if (!parts) return;
	showPlays(parts.play, isMine());
	if (!isMine()) parts.playhead.hidden = true;
}

function widen() {
	if (!row) return;
	context = context + WIDER_S > MAX_CONTEXT_S ? 0 : context + WIDER_S;
	isOwn = false;
	parts.picture.levels = null;
	parts.wider.textContent = context ? t("wider.by", { s: context }) : t("wider");
	say(parts.wider.textContent);
	loadPicture();
	if (isMine()) start(row.start_s);
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

function showSettings() {
	const { speed } = state.settings;
	parts.speed.textContent = `${number(speed, 2)}×`;
	for (const name of ["loop", "level", "pitch"]) parts[name].ariaPressed = state.settings[name];
	parts.pitch.hidden = speed === 1;
}
