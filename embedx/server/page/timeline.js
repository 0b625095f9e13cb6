/* The timeline: a recording from its begin to its end, its rows, and which of them are hits. */

import { Cache, getJson, path } from "./api.js";
import { canvas, el, fill, muted, shareAt, showValue, slider } from "./dom.js";
import { showRecording } from "./recording.js";
import { state } from "./state.js";
import { clock, t } from "./words.js";

const HEIGHT = 28; // pixels of the strip
const MAX_KEPT = 20; // recordings whose rows are kept

const kept = new Cache(MAX_KEPT);

async function recordingOf({ recording }) {
	if (recording === undefined || recording === null) return null;
	const address = path(`/recordings/${encodeURIComponent(recording)}`);
	return kept.get(address) ?? kept.put(address, getJson(address).catch(() => (kept.drop(address), null)));
}

/** Fill an element with the timeline of the recording of a row; `open` is called with the row that is chosen. */
export async function showTimeline(node, row, open) {
	const facts = await recordingOf(row);
	const rows = facts?.rows ?? state.hits.filter((hit) => hit.path === row.path);
	const end = facts?.duration_s ?? Math.max(row.end_s, ...rows.map((one) => one.end_s));
	if (!node.isConnected) return;
	if (rows.length < 2) return void fill(node, muted(t("timeline.only", { end: clock(end) })));
	const hits = new Set(state.hits.map((hit) => hit.id)), strip = canvas({ height: HEIGHT });
	const line = slider("div.strip", t("timeline"), { low: 1, high: rows.length, place: () => place + 1, step: () => 1, move: (to) => goTo(to - 1), press: () => open(rows[place].id), click: jump }, strip);
	let place;
	goTo(Math.max(0, rows.findIndex((one) => one.id === row.id)));
	fill(node, facts?.duration_s ? showRecording(row, facts) : null, line, el("div.scale", el("span", clock(0)), el("span", clock(end))));
	new ResizeObserver(draw).observe(line);

	function goTo(to) {
		place = to;
		const { start_s, label } = rows[place];
		showValue(line, place + 1, t("timeline.row", { n: place + 1, all: rows.length, at: clock(start_s), label: label ?? "" }));
		draw();
	}

	function draw() {
		const width = Math.round(line.clientWidth * devicePixelRatio), height = HEIGHT * devicePixelRatio;
		Object.assign(strip, { width, height });
		const context = strip.getContext("2d");
		rows.forEach(({ id, start_s, end_s }, index) => {
			const [colour, top] = index === place ? ["--text", 0] : hits.has(id) ? ["--accent", 0.2] : ["--control", 0.6];
			strip.style.color = `var(${colour})`;
			context.fillStyle = getComputedStyle(strip).color;
			context.fillRect((start_s / end) * width, top * height, Math.max(2, ((end_s - start_s) / end) * width - 1), (1 - top) * height);
		});
	}

	function jump(event) {
		const at = shareAt(line, event) * end, distance = (one) => Math.max(one.start_s - at, at - one.end_s, 0);
		goTo(rows.reduce((best, one, index) => (distance(one) < distance(rows[best]) ? index : best), 0));
		open(rows[place].id);
	}
}
