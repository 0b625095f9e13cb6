/* The screen Find: a question, its answer, and the row that is looked at. */

import { ask } from "./address.js";
import { latest } from "./api.js";
import { button, checkbox, choice, dialog, el, fill, nameOf, say } from "./dom.js";
import { conditionsOf, joined, makeFilter, sentenceOf, setFilter, showFilter } from "./filter.js";
import * as hits from "./hits.js";
import { commands } from "./keys.js";
import { makeQuery, showProblem, showQuestion } from "./query.js";
import { PAGES, countRows, isAsked, rowOf, search, withBase } from "./rows.js";
import { on, set, state } from "./state.js";
import { messageOf, t } from "./words.js";

const NOTHING = { kind: "hits", hits: [] };

const nextAnswer = latest();
export let panel;
let node, request = null, page = 0, isMore = false, isAsking = false, isCut = false, count, group, diverse, measure;

export function make() {
	count = el("p.count", { id: "count" });
	measure = el("p.muted.measure");
	group = choice(t("group"), [["", t("group.none")], ["recording", t("group.recording")]], "", (value) => ask({ group: value }));
	diverse = checkbox(false, (value) => ask({ diverse: value }));
	panel = el("aside.inspector", { "aria-label": t("inspector"), tabindex: -1 }, el("p.muted.hint", t("inspector.empty")));
	const list = hits.makeHits({ open: async () => (await inspector()).openInspector(), refine, more, cancel, whyNone });
	const options = el("div.row.options", count, measure, el("label", { title: t("diverse.tip") }, diverse, " ", t("diverse")), group, button(t("export"), dialog("openExport"), "small"));
	on("selected", inspector);
	on("offline", () => !state.offline && isCut && answer(state.question));
	commands({
		export: dialog("openExport"),
		undo: async () => (await steps()).undo(),
		redo: async () => (await steps()).redo(),
		copy: async () => (await inspector()).copy(location.href),
	});
	return (node = el("div.find", el("div.side", makeQuery(without), makeFilter()), el("div.answer", options, list)));
}

async function inspector() {
	const part = await import("./inspector.js");
	part.bindInspector(panel);
	return part;
}

const steps = () => import("./undo.js");

function change(fields) {
	const before = state.question, after = { ...before, ...fields };
	steps().then(({ remember }) => remember({ kind: "refine", before, after }));
	ask(after);
}

function refine({ id, path: name }, list) {
	const { question } = state, other = list === "like" ? "unlike" : "like";
	if (list === "unlike" && !isAsked(question)) return say(t("less.needs"));
	say(t(`refined.${list}`, { name }));
	change({ ...(question.text ? withBase({}) : {}), [list]: [...new Set([...question[list], id])], [other]: question[other].filter((one) => one !== id) });
}

function without(row, list) {
	change({ [list]: list === "id" ? null : state.question[list].filter((one) => one !== row) });
}

export function open({ question, ...options }) {
	node.append(panel); // which may be in the map
	answer(question, options);
}

async function answer(question, { row = null, focus = false } = {}) {
	const signal = (request = nextAnswer());
	[page, isCut, isAsking] = [0, false, true];
	showProblem("");
	group.value = question.group;
	diverse.checked = question.diverse;
	diverse.disabled = question.group !== "";
	showFilter(question.where);
	showQuestion(question, (id) => (typeof id === "string" ? t("query.sound") : state.hits.find((hit) => hit.id === id)?.path ?? t("row", { id: String(id) })));
	hits.showLoading();
	try {
		const wrong = wrongWith(question);
		show(wrong ? NOTHING : await search(question, PAGES[0], signal), focus);
		if (wrong) showProblem(wrong);
		if (row !== null) await showRow(row, false);
	} catch (error) {
		if (!signal.aborted) fail(error, question);
	} finally {
		if (request === signal) isAsking = false;
		inspector();
	}
}

/** Return what keeps a sound from being searched, such as silence; "" if nothing does. */
const wrongWith = ({ clip }) => state.clips.get(clip)?.wrong ?? "";

function showCount({ kind, hits: { length: n }, took_ms = 0 }) {
	count.textContent = t(`count.${kind}`, { n, ms: Math.round(took_ms) });
}

function show(found, focus) {
	isMore = found.more;
	set({ hits: found.hits });
	hits.showHits(found.hits, { focus });
	showCount(found);
	say(count.textContent);
	measure.textContent = found.kind === "hits" ? t("measure") : "";
}

/** Select a row, also if it is not among the hits; focus its card. */
export async function showRow(id, isFocused = true) {
	const known = state.hits.find((hit) => hit.id === id);
	if (known && isFocused && hits.chooseRow(id)) return;
	try {
		set({ selected: known ?? (await rowOf(id)) });
	} catch (error) {
		say(messageOf(error));
	}
}

function fail(error, question) {
	isCut = error.status === 0;
	if (error.code === "no_text") set({ model: { ...state.model, text: false } });
	if (error.code === "bad_filter") return hits.stopLoading(); // the filter says it, and the hits from before stay
	hits.showError(error, () => answer(question));
}

function cancel() {
	nextAnswer();
	hits.showHits(state.hits);
}

/** Get a longer list of the same question, and add what is new. */
async function more() {
	if (!isMore || isAsking) return;
	isAsking = true;
	const signal = request;
	try {
		const found = await search(state.question, PAGES[++page], signal);
		isMore = found.more;
		set({ hits: found.hits });
		hits.appendHits(found.hits);
		showCount(found);
	} catch (error) {
		if (!signal.aborted) hits.showError(error, more);
	} finally {
		if (request === signal) isAsking = false;
	}
}

/** Say why nothing was found: each condition, with the rows that are left without it. */
function whyNone() {
	const conditions = conditionsOf(state.question.where);
	if (wrongWith(state.question)) return null; // it stands beside the sound
	if (!state.collection?.rows) return el("p", t("empty"));
	if (!conditions.length) return el("p", t("none.found"));
	return el("div", el("p", t("none.filter")), el("ul.why", conditions.map((condition) => {
		const where = joined(conditions.filter((one) => one !== condition)), left = el("span");
		countRows(where).then((n) => fill(left, t("none.without", { n })), () => null);
		return el("li", nameOf(sentenceOf(condition), 60), " ", left, " ", button(t("remove.short"), () => setFilter(where), "small"));
	})));
}

export function closeSheet() {
	const isOpen = panel?.classList.contains("open") ?? false;
	panel?.classList.remove("open");
	return isOpen;
}
