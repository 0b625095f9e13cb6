/* What is pointed at on the map, and what is selected. */

import { ask, go } from "./address.js";
import { Card } from "./card.js";
import { button, checkbox, consume, dialog, el, fill, mutedWord, say, warn } from "./dom.js";
import { digitOf } from "./keys.js";
import { nameField, valuesOf } from "./names.js";
import { inside, nearest } from "./points.js";
import { rowOf, rowsOf, soundOf } from "./rows.js";
import { clamp } from "./scale.js";
import { isPlaying, play, stop } from "./sound.js";
import { noQuestion, on, set, setSettings, state } from "./state.js";
import { giveLabel, whyReadOnly } from "./undo.js";
import { messageOf, t } from "./words.js";

const HIT = 8, TOUCH_HIT = 16; // pixels from a point
const HOVER_MS = 80, SOUND_MS = 250; // on a point, before it is shown, and before it sounds
const DRAG = 4; // pixels, from which a press is a drag
const STEP = 16; // pixels of the cross of the keyboard
const MAX_LABELLED = 10_000; // edits of one change
const MAX_WHERE = 1000; // rows of a condition in the address

export const selected = new Set();
const pressed = new Map(); // pointers: {from, last, isDrag}
let map, overlay, lasso, corners = null, start = null, cross = null, found = -1, timers = [], last = {}, size = { width: 0, height: 0, ratio: 1 };

/** Take the map's elements and functions; return the switches of lasso and sound. */
export function makePicker(given) {
	map = given;
	overlay = map.overlay;
	for (const [name, action] of Object.entries(POINTER)) overlay.addEventListener(name, action); // those of an element may stop the wheel
	on("selected", () => overlay.isConnected && draw());
	lasso = button(t("map.lasso"), () => (lasso.ariaPressed = !isLasso()), { class: "small", "aria-pressed": "false", title: t("map.lasso.tip") });
	return { lasso, hoverBox: checkbox(state.settings.hover, (value) => setSettings({ hover: value })) };
}

const isLasso = () => lasso.ariaPressed === "true";

export function resize(width, height, ratio) {
	size = { width, height, ratio };
	Object.assign(overlay, { width: width * ratio, height: height * ratio });
}

export function leave() {
	timers.forEach(clearTimeout);
	fill(map.corner);
	found = -1;
}

export function draw() {
	const context = overlay.getContext("2d"), points = map.points();
	context.reset();
	if (!map.view()?.scale) return;
	context.scale(size.ratio, size.ratio);
	Object.assign(context, { strokeStyle: getComputedStyle(overlay).color, lineWidth: 2 });
	const lines = (places, isClosed = false) => {
		context.beginPath();
		for (const place of places) context.lineTo(...place);
		if (isClosed) context.closePath();
		context.stroke();
	};
	for (const [i, radius] of [[found, 7], [state.selected ? points.id.indexOf(state.selected.id) : -1, 10]]) {
		if (i < 0 || i >= points.count) continue;
		context.beginPath();
		context.arc(...map.on(i), radius, 0, 7);
		context.stroke();
	}
	if (cross && document.activeElement === overlay) {
		const [x, y] = cross;
		lines([[x - 12, y], [x + 12, y]]);
		lines([[x, y - 12], [x, y + 12]]);
	}
	context.setLineDash([6, 4]);
	if (corners) lines(corners, true);
}

const placeOf = ({ offsetX, offsetY }) => [offsetX, offsetY];

const idOf = (i) => map.points()?.id[i];

const pointAt = (place, reach = HIT) =>
	(map.view()?.scale ? nearest(map.points(), map.at(...place), reach / map.view().scale, map.isShown) : -1);

const POINTER = {
	pointerdown(event) {
		if (event.button) return;
		const from = placeOf(event);
		overlay.setPointerCapture(event.pointerId);
		pressed.set(event.pointerId, { from, last: from, isDrag: false });
		corners = pressed.size === 1 && (event.shiftKey || isLasso()) ? [from] : null;
	},

	pointermove(event) {
		const place = placeOf(event), press = pressed.get(event.pointerId);
		if (!press) return hover(pointAt(place));
		press.isDrag ||= Math.hypot(place[0] - press.from[0], place[1] - press.from[1]) > DRAG;
		if (!press.isDrag) return;
		if (pressed.size === 2) pinch(press, place);
		else if (corners) corners.push(place);
		else map.pan(place[0] - press.last[0], place[1] - press.last[1]);
		press.last = place;
		if (corners) draw();
	},

	pointerup(event) {
		const press = pressed.get(event.pointerId);
		pressed.delete(event.pointerId);
		if (!press) return;
		if (!press.isDrag) open(idOf(pointAt(press.from, event.pointerType === "touch" ? TOUCH_HIT : HIT)));
		else if (corners) closeLasso(event.altKey);
		corners = null;
		draw();
	},

	pointercancel(event) {
		pressed.delete(event.pointerId);
		corners = null;
	},

	pointerleave: () => pressed.size || hover(-1),

	wheel(event) {
		event.preventDefault();
		map.zoom(2 ** (-event.deltaY / (event.deltaMode ? 10 : 300)), ...placeOf(event));
	},

	dblclick: (event) => map.zoom(2, ...placeOf(event)),

	keydown(event) {
		if (event.ctrlKey || event.metaKey || (event.altKey && event.key !== "Enter")) return;
		const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
		const zoom = { "+": 1.5, "-": 1 / 1.5 }[event.key], value = valuesOf("label")[digitOf(event) - 1];
		if (arrow) moveCross(arrow, event.shiftKey);
		else if (event.key === "Enter" && corners) (closeLasso(event.altKey), (corners = null));
		else if (event.key === "Enter") open();
		else if (event.key === " ") sound();
		else if (zoom) map.zoom(zoom, ...(cross ?? []));
		else if (value && selected.size) label(value);
		else if (event.key === "Escape" && corners) corners = null;
		else if (event.key === "Escape" && selected.size) clear();
		else return;
		consume(event);
		draw();
	},
};

function pinch(press, place) {
	const other = [...pressed.values()].find((one) => one !== press).last;
	const length = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
	map.zoom(length(place) / Math.max(1, length(press.last)), (place[0] + other[0]) / 2, (place[1] + other[1]) / 2);
}

/** Move the cross; with Shift it draws a rectangle, which Enter selects. */
function moveCross([dx, dy], isShift) {
	const [x, y] = cross ?? [size.width / 2, size.height / 2];
	cross = [clamp(x + dx * STEP, 0, size.width), clamp(y + dy * STEP, 0, size.height)];
	if (isShift && !corners) start = [x, y];
	corners = isShift ? [start, [cross[0], start[1]], cross, [start[0], cross[1]]] : null;
	hover(pointAt(cross, STEP));
}

function closeLasso(isLess) {
	if (corners.length > 2) choose(inside(map.points(), corners.map((place) => map.at(...place))).filter(map.isShown), isLess);
}

export function choose(indexes, isLess = false) {
	for (const i of indexes) selected[isLess ? "delete" : "add"](idOf(i));
	showBar();
	map.chosen();
	say(t("map.selected", { n: selected.size }));
}

export function clear() {
	selected.clear();
	showBar();
	map.chosen();
}

function hover(now) {
	if (now === found) return;
	timers.forEach(clearTimeout);
	found = now;
	draw();
	if (now < 0) return;
	timers = [setTimeout(showRow, HOVER_MS, idOf(now)), setTimeout(() => state.settings.hover && sound(), SOUND_MS)];
}

function rowAt(id) {
	if (last.id !== id) last = { id, row: rowOf(id) };
	last.row.catch(() => (last = {}));
	return last.row;
}

async function showRow(id) {
	const row = await rowAt(id).catch(() => null);
	if (!row || idOf(found) !== id) return;
	const ask = () => go({ question: { ...noQuestion(), id } });
	const card = new Card(row, { play: () => sound(id), open: () => open(id), more: ask, less: ask });
	fill(map.corner, card.node);
	card.load();
	if (document.activeElement === overlay) say(`${row.label ?? ""} ${row.path}`);
}

async function sound(id = idOf(found)) {
	const key = `map${id}`;
	if (id === undefined) return;
	if (isPlaying(key)) return void stop();
	try {
		play(key, (await soundOf(await rowAt(id))).buffer);
	} catch (error) {
		warn(messageOf(error));
	}
}

async function open(id = idOf(found)) {
	if (id === undefined) return;
	const row = await rowAt(id).catch((error) => warn(messageOf(error)));
	if (row) set({ selected: row });
	overlay.closest(".map").querySelector(".inspector")?.classList.add("open");
}

function showBar() {
	const n = selected.size, reason = whyReadOnly() || (n > MAX_LABELLED && t("map.label.many", { n: MAX_LABELLED }));
	map.bar.hidden = n === 0;
	const names = el("datalist", { id: "maplabels" }, valuesOf("label").map((value) => el("option", { value })));
	const field = nameField(t("map.label"), label, { list: "maplabels", disabled: Boolean(reason), title: reason });
	const where = () => `id IN (${[...selected].sort((a, b) => a - b).join(", ")})`;
	fill(map.bar, el("strong", t("rows", { n })), names, field,
		button(t("map.find"), () => ask({ where: where() }), { class: "small", disabled: n > MAX_WHERE, title: n > MAX_WHERE && t("map.find.many", { n: MAX_WHERE }) }),
		button(t("screen.label"), () => (set({ selection: [...selected] }), go({ screen: "label", extra: { by: "selection" } })), "small"),
		button(t("export"), dialog("openExport", [...selected]), "small"),
		button(t("map.clear"), clear, "small plain"), reason && mutedWord(reason));
}

/** Label the selection, in one step. */
async function label(value) {
	const ids = [...selected], rows = [];
	try {
		for (let from = 0; from < ids.length; from += MAX_WHERE) {
			rows.push(...(await rowsOf(ids.slice(from, from + MAX_WHERE), { columns: "label" })));
		}
		giveLabel(rows, value);
		last = {};
	} catch (error) {
		warn(messageOf(error));
	}
}
