/* The screen Map: all rows in two dimensions. What is pointed at or lassoed is in pick.js. */

import { formatAddress } from "./address.js";
import { doneJob, latest, path, send, withFields } from "./api.js";
import { readBlocks } from "./blocks.js";
import { button, canvas, choice, debounce, el, fill, fillChoice, iconButton, visible, warn } from "./dom.js";
import { panel } from "./find.js";
import { Legend, grouped } from "./legend.js";
import * as picker from "./pick.js";
import { packed } from "./picture.js";
import { boundsOf } from "./points.js";
import { Raster } from "./raster.js";
import { clamp } from "./scale.js";
import { on, state } from "./state.js";
import { messageOf, number, t } from "./words.js";

const MAX_POINTS = 200_000; // that are drawn; of more rows a fair sample is shown
const REST_MS = 120; // of the view, before discs are drawn
const BOX_MS = 250; // of the view, before its rows are asked for
const TOLD_MS = 1000; // of the events, before the map is asked for again
const MAX_ZOOM = 400;
const MARGIN = 0.92; // of the window that all points fill
const NO_COLOUR = { groups: [], codes: new Uint8Array(0) };
const CUT = 16; // and more: the shades of points that a selection leaves out

const nextMap = latest(), nextColour = latest();
let parts, raster, legend, frame = 0, request = null;
let shown = { name: "", method: "pca", colour: "label" }; // what is loaded
let header = null, base = null, points = null, view = null, isFitted = true;
let colour = NO_COLOUR, shades = null, colours = null, ground = 0;

export function make() {
	const method = choice(t("map.method"), [], "", (value) => change({ method: value }));
	const colourList = choice(t("map.colour"), [], "", (value) => change({ colour: value }));
	const quick = canvas(), fine = canvas(), corner = el("div.corner");
	const overlay = el("canvas.overlay", { tabindex: 0, role: "application", "aria-label": t("map.canvas"), "aria-describedby": "mapnote" });
	const note = el("p.muted", { id: "mapnote", "aria-live": "polite" }), list = el("ul.legend", { "aria-label": t("map.legend") });
	const bar = el("div.row.bar", { role: "group", "aria-label": t("map.selection"), hidden: true });
	raster = new Raster(quick, fine);
	legend = new Legend(list, { changed: draw, select: (code) => picker.choose(indexes(points.count).filter((i) => groupOf(i) === code)) });
	const { lasso, hoverBox } = picker.makePicker({ overlay, corner, bar, zoom, pan, at: toMap, on: toScreen, isShown: (i) => colours[shades[i]] !== 0, chosen: shadeAndDraw, points: () => points, view: () => view });
	const stage = el("div.stage", quick, fine, overlay, corner);
	const node = el("div.map",
		el("div.row.tools", el("label", t("map.method"), " ", method), lasso, iconButton("plus", t("map.in"), () => zoom(2)), iconButton("minus", t("map.out"), () => zoom(0.5)),
			button(t("map.all"), () => base && (fit(base), draw()), "small"), note),
		el("div.field", stage, bar),
		el("div.side", el("label", t("map.colour"), " ", colourList), list, el("label", { title: t("map.hover.tip") }, hoverBox, " ", t("map.hover"))));
	parts = { method, colours: colourList, note, stage, node };
	new ResizeObserver(resize).observe(stage);
	const ifShown = (action) => () => node.isConnected && action();
	const told = { rows: debounce(ifShown(load), TOLD_MS), labels: debounce(ifShown(loadColour), TOLD_MS) };
	on("told", ifShown(() => told[state.told.name]?.()));
	on("theme", ifShown(shadeAndDraw));
	matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ifShown(shadeAndDraw));
	return node;
}

export async function open({ extra }) {
	parts.node.append(panel);
	const { name, maps = ["pca"], columns, heads } = state.collection;
	const options = [
		...columns.map((one) => [one.name, visible(one.name)]), ["flags", t("map.flags")],
		...heads.flatMap(({ name }) => [[`head:${name}`, t("map.head", { head: visible(name) })], [`head:${name}:p`, t("map.proba", { head: visible(name) })]]),
		...(examples().length ? [["score", t("map.score")]] : []),
	];
	const method = maps.includes(extra.method) ? extra.method : "pca", colour = options.some(([value]) => value === extra.colour) ? extra.colour : "label";
	fillChoice(parts.colours, options, colour);
	fillChoice(parts.method, maps.map((value) => [value, value.toUpperCase()]), method);
	if (shown.name !== name) picker.clear(), (header = null);
	const isSame = header && shown.name === name && shown.method === method;
	shown = { name, method, colour };
	if (isSame) return void loadColour();
	const box = extra.box?.split(",").map(Number);
	isFitted = !(box?.length === 4 && box.every(Number.isFinite));
	view = isFitted ? null : { cx: (box[0] + box[2]) / 2, cy: (box[1] + box[3]) / 2, box };
	await load();
}

export function leave() {
	request = nextMap();
	picker.leave();
}

function change(fields) {
	shown = { ...shown, ...fields };
	keep();
	if (!fields.method) return loadColour();
	isFitted = true;
	load();
}

const examples = () => [state.question.id, ...state.question.like].filter(Number.isInteger);

function keep() {
	if (state.screen !== "map") return;
	const { name, method, colour } = shown, box = isFitted ? "" : boxInView().map((value) => value.toPrecision(5)).join(",");
	history.replaceState(null, "", formatAddress({ name, screen: "map", question: state.question, extra: { method: method === "pca" ? "" : method, colour, box } }));
}

async function fetchBlocks(address, { told, ...options }) {
	const answer = await send(address, { ...options, headers: { Accept: "application/x-exc1", ...options.headers } });
	return answer.status === 202 ? answer.json() : readBlocks(answer, told);
}

const mapAddress = (fields) => withFields(path("/map", shown.name), { method: shown.method, limit: MAX_POINTS, ...fields });

/** Get the points, and draw the first at once. A map that is still made is waited for. */
async function load() {
	const signal = (request = nextMap()), { method } = shown;
	try {
		for (;;) {
			const found = await fetchBlocks(mapAddress(), { signal, told: (head, rows) => method === shown.method && take(head, rows) }), job = found.job ?? found.header.job;
			if (!job) break;
			if (found.header) loadColour();
			else fill(parts.note, el("progress", { "aria-label": t("map.making") }), " ", t("map.making"));
			await doneJob(job, signal);
		}
		await loadColour();
	} catch (error) {
		if (signal.aborted) return;
		const text = method === "pca" ? messageOf(error) : `${t("map.failed")} ${messageOf(error)}`;
		fill(parts.note, el("span.error", text), " ", button(t("again"), load, "small"));
		warn(text);
		if (method !== "pca") parts.method.value = shown.method = "pca"; // what is shown
	}
}

function take(head, rows) {
	if (header && rows < head.header.rows) return;
	header = head.header;
	base = points = { ...head.columns, count: rows };
	if (isFitted || !view) fit(points);
	else if (view.box) view.scale = Math.min(raster.width / (view.box[2] - view.box[0]), raster.height / (view.box[3] - view.box[1]));
	showNote();
	shadeAndDraw();
}

function showNote() {
	const [x, y] = header.explained, words = shown.method === "pca" ? t("map.pca", { share: number(100 * (x + y), 0) }) : t("map.umap");
	const sample = points !== base ? t("map.part", { n: points.count, all: points.within }) : header.rows < header.all ? t("map.sample", { n: header.rows, all: header.all }) : t("rows", { n: header.all });
	parts.note.textContent = `${sample}. ${header.job ? t("map.making") : words}`;
}

async function loadColour() {
	const signal = nextColour();
	const body = JSON.stringify({ like: examples(), unlike: state.question.unlike });
	const [rest, options] = shown.colour === "score" ? ["/scores", { method: "POST", body, headers: { "Content-Type": "application/json" } }] : [`/columns/${encodeURIComponent(shown.colour)}`];
	try {
		const found = await fetchBlocks(path(rest, shown.name), { signal, ...options });
		colour = grouped(found.columns.value, found.header.values ?? []);
		if (header && found.header.order !== header.order) return void load(); // rows have come meanwhile
	} catch (error) {
		if (signal.aborted) return;
		warn(messageOf(error));
		colour = NO_COLOUR;
	}
	shadeAndDraw();
}

const indexes = (count) => Array.from({ length: count }, (_, i) => i);
const groupOf = (i) => shades[i] % CUT;

/** Set the shade of every point: its group, and whether a selection leaves it out. */
function shadeAndDraw() {
	if (!points || !view) return;
	const { id, place, count } = points, { selected } = picker, none = 9;
	shades = new Uint8Array(count);
	for (let i = 0; i < count; i++) shades[i] = (colour.codes[place ? place[i] : i] ?? none) + (selected.size && !selected.has(id[i]) ? CUT : 0);
	showLegend(indexes(count));
	draw();
}

function showLegend(inView) {
	const count = (places) => places.reduce((sums, i) => (sums[groupOf(i)]++, sums), new Array(10).fill(0));
	const rgb = getComputedStyle(parts.stage).backgroundColor.match(/\d+/g).map(Number);
	ground = packed(rgb) >>> 0;
	legend.show(colour, { view: count(inView), all: count(indexes(points.count)) }, rgb[1] < 128);
}

/** Draw coarsely with the next frame, and finely at rest. */
function draw() {
	frame ||= requestAnimationFrame(() => {
		frame = 0;
		if (!points || !view?.scale || !raster.width) return;
		colours = legend.colours(ground);
		raster.draw({ ...points, shades }, view, colours, ground);
		picker.draw();
		rest();
	});
}

const rest = debounce(() => points && parts.stage.isConnected && raster.refine({ ...points, shades }, view, colours, ground, (inView) => {
	showLegend(inView);
	keep();
	if (header.rows < header.all && !header.job) fetchBox();
}), REST_MS);

/** Of more rows than are drawn, get those that lie in view. */
const fetchBox = debounce(async () => {
	const box = boxInView().join(",");
	if (isFitted ? points === base : points.box === box) return;
	if (isFitted) points = base;
	else {
		const found = await fetchBlocks(mapAddress({ box }), { signal: request }).catch(() => null);
		if (!found) return;
		points = { ...found.columns, count: found.header.rows, within: found.header.within, box };
	}
	showNote();
	shadeAndDraw();
}, BOX_MS);

function resize() {
	const { clientWidth, clientHeight } = parts.stage;
	if (!clientWidth || !clientHeight) return;
	raster.resize(clientWidth, clientHeight, devicePixelRatio);
	picker.resize(clientWidth, clientHeight, devicePixelRatio);
	if (isFitted && base) fit(base);
	draw();
}

function fit(all) {
	const { left, right, bottom, top } = boundsOf(all);
	const scale = MARGIN * Math.min(raster.width / (right - left || 1), raster.height / (top - bottom || 1));
	view = { scale, least: scale, cx: (left + right) / 2, cy: (bottom + top) / 2 };
	isFitted = true;
}

const toMap = (px, py) => [view.cx + (px - raster.width / 2) / view.scale, view.cy - (py - raster.height / 2) / view.scale];
const toScreen = (i) => [raster.width / 2 + (points.x[i] - view.cx) * view.scale, raster.height / 2 - (points.y[i] - view.cy) * view.scale];

function boxInView() {
	const [x0, y1] = toMap(0, 0), [x1, y0] = toMap(raster.width, raster.height);
	return [x0, y0, x1, y1];
}

function zoom(factor, px = raster.width / 2, py = raster.height / 2) {
	if (!view) return;
	const least = view.least ?? view.scale / 8, scale = clamp(view.scale * factor, least, least * MAX_ZOOM);
	const [x, y] = toMap(px, py), left = view.scale / scale;
	moveTo({ scale, least, cx: x + (view.cx - x) * left, cy: y + (view.cy - y) * left });
}

function pan(dx, dy) {
	if (view) moveTo({ ...view, cx: view.cx - dx / view.scale, cy: view.cy + dy / view.scale });
}

function moveTo(wanted) {
	view = wanted;
	isFitted = false;
	draw();
}
