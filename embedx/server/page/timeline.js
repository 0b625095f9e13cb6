/* The timeline of a recording: its rows, and which of them are hits. */

import { Cache, getJson, path } from "./api.js";
import { el, fill, muted, shareAt, showValue, slider } from "./dom.js";
import { showRecording } from "./recording.js";
import { state } from "./state.js";
import { clock, t } from "./words.js";

const MAX_KEPT = 20; // recordings whose rows are kept

const kept = new Cache(MAX_KEPT);

async function recordingOf({ recording }) {
	if ((recording ?? null) === null) return null;
	const address = path(`/recordings/${encodeURIComponent(recording)}`);
	return kept.get(address) ?? kept.put(address, getJson(address).then((facts) => ({ ...facts, address })).catch(() => (kept.drop(address), null)));
}

export async function showTimeline(node, row, open) {
	const facts = await recordingOf(row);
	const rows = facts?.rows ?? state.hits.filter((hit) => hit.path === row.path);
	const end = facts?.duration_s ?? Math.max(row.end_s, ...rows.map((one) => one.end_s));
	if (!node.isConnected) return;
	if (rows.length < 2) return void fill(node, muted(t("timeline.only", { end: clock(end) })));
	const hits = new Set(state.hits.map((hit) => hit.id)), percent = (time) => `${(100 * time) / end}%`;
	const marks = rows.map(({ id, start_s, end_s }) => el(hits.has(id) ? "i.hit" : "i", { style: { left: percent(start_s), width: percent(end_s - start_s) } }));
	const line = slider("div.strip", t("timeline"), { low: 1, high: rows.length, place: () => place + 1, step: () => 1, move: (to) => goTo(to - 1), press: () => open(rows[place].id), click: jump }, marks);
	let place = 0;
	goTo(Math.max(0, rows.findIndex((one) => one.id === row.id)));
	fill(node, facts?.duration_s ? showRecording(row, facts) : null, line, el("div.scale", el("span", clock(0)), el("span", clock(end))));

	function goTo(to) {
		marks[place].classList.remove("here");
		marks[(place = to)].classList.add("here");
		const { start_s, label } = rows[place];
		showValue(line, place + 1, t("timeline.row", { n: place + 1, all: rows.length, at: clock(start_s), label: label ?? "" }));
	}

	function jump(event) {
		const at = shareAt(line, event) * end, distance = (one) => Math.max(one.start_s - at, at - one.end_s, 0);
		goTo(rows.reduce((best, one, index) => (distance(one) < distance(rows[best]) ? index : best), 0));
		open(rows[place].id);
	}
}
