/* The timeline: a recording from its begin to its end, its rows, and which of them are hits. */

import { getJson, path } from "./api.js";
import { canvas, clamp, consume, el, fill, muted, shareAt } from "./dom.js";
import { showRecording } from "./recording.js";
import { state } from "./state.js";
import { clock, t } from "./words.js";

const HEIGHT = 28; // pixels of the strip
const MAX_KEPT = 20; // recordings whose rows are kept

const kept = new Map();

async function recordingOf({ recording }) {
	if (recording === undefined || recording === null) return null;
	const address = path(`/recordings/${encodeURIComponent(recording)}`);
	if (!kept.has(address)) {
		kept.set(address, getJson(address).catch(() => (kept.delete(address), null)));
		if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value);
	}
	return kept.get(address);
}

/** Fill an element with the timeline of the recording of a row; `open` is called with the row that is chosen. */
export async function showTimeline(node, row, open) {
	const facts = await recordingOf(row);
	const rows = facts?.rows ?? state.hits.filter((hit) => hit.path === row.path);
	const end = facts?.duration_s ?? Math.max(row.end_s, ...rows.map((one) => one.end_s));
	if (!node.isConnected) return;
	if (rows.length < 2) return void fill(node, muted(t("timeline.only", { end: clock(end) })));
	const hits = new Set(state.hits.map((hit) => hit.id)), strip = canvas({ height: HEIGHT });
	const slider = el("div.strip", { role: "slider", tabindex: 0, "aria-label": t("timeline"), "aria-valuemin": 1, "aria-valuemax": rows.length, keydown: step, click: jump }, strip);
	let place;
	goTo(Math.max(0, rows.findIndex((one) => one.id === row.id)));
	fill(node, facts?.duration_s ? showRecording(row, facts) : null, slider, el("div.scale", el("span", clock(0)), el("span", clock(end))));
	new ResizeObserver(draw).observe(slider);

	function goTo(to) {
		place = to;
		const { start_s, label } = rows[place];
		slider.ariaValueNow = place + 1;
		slider.ariaValueText = t("timeline.row", { n: place + 1, all: rows.length, at: clock(start_s), label: label ?? "" });
		draw();
	}

	function draw() {
		const width = Math.round(slider.clientWidth * devicePixelRatio), height = HEIGHT * devicePixelRatio;
		Object.assign(strip, { width, height });
		const context = strip.getContext("2d");
		rows.forEach(({ id, start_s, end_s }, index) => {
			const [colour, top] = index === place ? ["--text", 0] : hits.has(id) ? ["--accent", 0.2] : ["--control", 0.6];
			strip.style.color = `var(${colour})`;
			context.fillStyle = getComputedStyle(strip).color;
			context.fillRect((start_s / end) * width, top * height, Math.max(2, ((end_s - start_s) / end) * width - 1), (1 - top) * height);
		});
	}

	function step(event) {
		const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: rows.length - 1 }[event.key];
		if (event.key === "Enter") return void open(rows[place].id);
		if (to === undefined || event.shiftKey || event.altKey || event.ctrlKey) return;
		consume(event);
		goTo(clamp(to, 0, rows.length - 1));
	}

	function jump(event) {
		const at = shareAt(slider, event) * end, distance = (one) => Math.max(one.start_s - at, at - one.end_s, 0);
		goTo(rows.reduce((best, one, index) => (distance(one) < distance(rows[best]) ? index : best), 0));
		open(rows[place].id);
	}
}
