/* The screen Label: one sound after the other. */

import { go } from "./address.js";
import { latest } from "./api.js";
import { button, checkbox, choice, el, errorBox, fill, focusOn, icon, muted, mutedWord, nameOf, say, visible, warn } from "./dom.js";
import { resultOf, sentenceOf, train } from "./heads.js";
import { commands } from "./keys.js";
import { SIZE, bindPlayer, showLarge, start, togglePlay } from "./large.js";
import { addName, digitButtons, headOf, isYesNo, nameField, taskOf } from "./names.js";
import { pictureOf, rowOf, soundOf } from "./rows.js";
import { stop } from "./sound.js";
import { on, set, setSettings, state } from "./state.js";
import { makeStrip, showStrip } from "./strip.js";
import { WAYS, WITH_HEAD, countLabelled, hasHead, suggestRows } from "./suggest.js";
import { makeTask, message } from "./task.js";
import { giveLabel, isLabelled, redo, setValue, undo, valueOf, whyReadOnly } from "./undo.js";
import { channelOf, clock, messageOf, score, t } from "./words.js";

const AROUND_S = 3; // seconds that are seen on each side of the stretch
const AT_HAND = 3; // rows that new suggestions do not replace
const MORE_AT = 8; // rows left, when more are asked for
const PICTURES_AHEAD = 12, SOUNDS_AHEAD = 3;
const TRAIN_AFTER = 20; // new labels
const RECENT = 200; // skipped rows that are not suggested again

let parts, task, shownName = "", queue = [], place = 0, skipped = [], by = "", head = "", band = { low: 0.4, high: 0.6, name: "" };
const nextRows = latest();
let request, isAsking = false, isLast = false, isTraining = false, fresh = 0, labelled = 0, passed = 0, selection = null;

export function make() {
	parts = {
		bar: el("div.row.bar"), band: el("div.row", { hidden: true }),
		place: el("span.place"), count: el("span.muted"), passed: el("span.muted"),
		name: el("p.name"), large: el("div.largeof"), thinks: el("p.thinks"), news: el("p.news"),
		keys: el("div.row.keys.dock", { role: "group", "aria-label": t("labels") }),
		strip: makeStrip((to) => goTo(to, { isPlayed: true })), result: el("div.result"), other: el("div"),
		readonly: el("p.banner", { hidden: true }),
	};
	parts.clip = el("article.clip", { tabindex: -1, "aria-label": t("clip") }, parts.name, parts.large, parts.thinks, parts.news);
	parts.work = el("div.work", parts.clip, parts.keys, parts.strip);
	bindPlayer();
	commands({ play: togglePlay, label: (event, digit) => giveDigit(digit), unlabel: () => give(null), unsure, undo, redo, skip, retrain }, "label");
	on("edited", showEdited);
	on("undone", showUndone);
	return el("div.labelling", parts.bar, parts.band, parts.readonly, parts.work, parts.other, parts.result);
}

/** Show an address: by is the way in which rows are suggested. */
export async function open({ extra }) {
	if (state.counted !== true) {
		message(parts.other, t("loading.queue"));
		await state.counted; // the names of the task
	}
	if (state.collection.name !== shownName) reset();
	if (parts.bar.hidden) return; // the task is being written
	const isOther = WAYS.includes(extra.by) && (extra.by !== by || (by === "selection" && state.selection !== selection));
	selection = state.selection;
	head = state.collection.heads?.some(({ name }) => name === extra.head) ? extra.head : "";
	by = isOther ? extra.by : by || "margin";
	if (WITH_HEAD.includes(by) && !canAsk()) by = "diverse";
	parts.readonly.textContent = whyReadOnly();
	parts.readonly.hidden = !whyReadOnly();
	if (!task.names.length) return showTask();
	showBar();
	if (isOther || !queue.length) await refill(isOther);
	else goTo(place);
}

const canAsk = () => Boolean(head) || hasHead(task);

export function leave() {
	stop();
	request = nextRows();
}

function reset() {
	shownName = state.collection.name;
	task = taskOf();
	[queue, place, fresh, passed, by, skipped, isLast] = [[], 0, 0, 0, "", [], false];
	fill(parts.result);
	fill(parts.other);
	parts.bar.hidden = false;
	set({ queue });
}

function showTask() {
	parts.work.hidden = parts.bar.hidden = true;
	leave();
	queue = []; // no key reaches a row that is not seen
	const begin = () => {
		reset();
		open({ extra: {} });
	};
	fill(parts.other, makeTask(begin, task.names.length ? begin : null));
	focusOn(parts.other.querySelector("h2"));
}

function showBar() {
	const isThere = (way) => (way === "hits" ? state.hits.length > 0 : way !== "selection" || state.selection?.length > 0);
	const ways = choice(t("queue"), WAYS.filter(isThere).map((way) => [way, t(`by.${way}`)]), by, (way) => go({ screen: "label", extra: { by: way, head }, replace: true }), { id: "by" });
	for (const option of ways.options) option.disabled = WITH_HEAD.includes(option.value) && !canAsk();
	const blind = checkbox(state.settings.blind, (value) => (setSettings({ blind: value }), showThinks()));
	fill(parts.bar,
		el("label", { for: "by" }, t("queue")), ways, parts.place, parts.count, parts.passed,
		el("span.end"), el("label", { title: t("blind.tip") }, blind, " ", t("blind")),
		button(t("names"), showTask, "small"), button([t("retrain"), el("kbd", "r")], retrain, "small"));
	parts.band.hidden = by !== "band";
	const change = (name, value) => (band[name] = value, refill(true));
	const bound = (name) => el("input", { type: "number", min: 0, max: 1, step: 0.05, value: band[name], "aria-label": t(`filter.${name}`), change: (event) => change(name, Number(event.target.value)) });
	const of = choice(t("by.class"), ["", ...task.names].map((name) => [name, name ? visible(name) : t("by.any")]), band.name, (name) => change("name", name));
	fill(parts.band, t("by.between"), bound("low"), t("filter.until"), bound("high"), of);
}

/** Ask for rows: in the place of all that are left, or after those at hand. */
async function refill(isNew = false, kept = 0) {
	const signal = (request = nextRows()), first = isNew ? 0 : Math.min(queue.length, place + kept);
	if (isNew) [place, isLast] = [0, false];
	isAsking = true;
	try {
		if (!first) message(parts.other, t("loading.queue"));
		const known = queue.filter((row, i) => i < first || isDone(row)).map((row) => row.id);
		const found = await suggestRows(task, { by, head, ...band }, [...new Set([...known, ...skipped])]);
		if (signal.aborted) return;
		isLast = !found.length;
		queue = [...queue.slice(0, first), ...found];
		set({ queue });
		fill(parts.other);
		if (place >= first || !parts.large.firstChild) goTo(place);
		else showPlace();
	} catch (error) {
		if (signal.aborted) return;
		if (place >= queue.length) showEnd(messageOf(error));
	} finally {
		if (signal === request) isAsking = false;
	}
	if (!first) countLabelled(task).then((count) => ((labelled = count), showPlace())).catch(() => null);
}

const isDone = (row) => isLabelled(row, task.column);

function goTo(to, { isPlayed = false } = {}) {
	stop();
	place = Math.max(0, Math.min(to, queue.length));
	const row = queue[place];
	parts.work.hidden = !row;
	if (!row) return showEnd();
	fill(parts.other);
	const hadFocus = parts.clip.contains(document.activeElement);
	fill(parts.name, nameOf(row.path, 60), " ", mutedWord(`${clock(row.start_s, 1)} – ${clock(row.end_s, 1)}${channelOf(row)}`));
	fill(parts.large, ...showLarge(row, { around: AROUND_S, own: true }));
	fill(parts.news);
	showThinks();
	parts.own = nameField(t("label.other"), (name) => (addName(name), (task = taskOf()), give(name)));
	showKeys();
	showPlace();
	if (hadFocus || document.activeElement === document.body) focusOn(parts.clip);
	if (isPlayed) start();
	for (const next of queue.slice(place + 1, place + 1 + PICTURES_AHEAD)) pictureOf(next, { ...SIZE, context: AROUND_S }, request).catch(() => null);
	for (const next of queue.slice(place + (isPlayed ? 1 : 0), place + 1 + SOUNDS_AHEAD)) soundOf(next, AROUND_S).catch(() => null);
	if (queue.length - place <= MORE_AT && !isAsking && !isLast) refill(false, queue.length - place);
}

function showPlace() {
	parts.place.textContent = t("place", { n: Math.min(place + 1, queue.length), all: queue.length });
	parts.count.textContent = t("labelled", { n: labelled });
	parts.passed.textContent = passed ? t("passed", { n: passed }) : "";
	showStrip(queue, place, task.column);
}

/** Show the two likeliest names of the head. */
function showThinks() {
	const likely = Object.entries(queue[place]?.proba ?? {});
	parts.thinks.hidden = state.settings.blind;
	fill(parts.thinks, likely.length > 0 && `${t("thinks")} `, likely.flatMap(([name, value], i) => [i ? ", " : "", nameOf(name, 30), ` ${score(value)}`]));
}

function showKeys() {
	const value = valueOf(queue[place], task.column), focused = [...parts.keys.children].findIndex((node) => node.contains(document.activeElement));
	const asked = isYesNo(task) ? t("task.question", { column: visible(task.column) }) : "";
	fill(parts.keys, button(icon("play"), togglePlay, { class: "phone-only", "aria-label": t("play") }), el("span.asked", asked, value !== null && [" ", el("span.chip", nameOf(value, 30))]),
		...digitButtons(isYesNo(task) ? task.names.map((name) => t(name)) : task.names, isYesNo(task) && value ? t(value) : value, giveDigit),
		button([el("kbd", "0"), t("unsure")], unsure), !isYesNo(task) && parts.own,
		button([el("kbd", "s"), t("pass")], skip), button([el("kbd", "u"), t("undo")], undo));
	if (focused >= 0 && !parts.keys.contains(document.activeElement)) focusOn(parts.keys.children[Math.min(focused, parts.keys.children.length - 1)]);
}

function showEnd(problem = "") {
	parts.work.hidden = true;
	stop();
	const text = problem || t(isLast ? (state.collection.rows ? "end.all" : "empty") : "end.queue");
	message(parts.other, text, button(t(problem ? "again" : "end.more"), () => refill(true), "primary"), button(t("undo"), undo), button(t("names"), showTask));
	say(text);
}

const giveDigit = (digit) => give(task.names[digit - 1]);

function give(value) {
	const row = queue[place];
	if (!row || value === undefined) return false;
	const before = valueOf(row, task.column);
	if (!giveLabel([row], value, task.column)) return;
	labelled += (value !== null) - (before !== null);
	if (value === null) return;
	next(value);
	if (++fresh >= TRAIN_AFTER) retrain();
}

function unsure() {
	const row = queue[place];
	if (row && giveLabel([row], "unsure", "review")) next(t("unsure"));
}

function skip() {
	if (!queue[place]) return;
	skipped = [...skipped, queue[place].id].slice(-RECENT);
	next(t("pass"));
}

/** Go on to the next row that nobody has labelled meanwhile. */
function next(said) {
	let to = place + 1;
	while (queue[to] && isDone(queue[to])) to++;
	say(t("said", { label: said, n: Math.min(to + 1, queue.length), all: queue.length }));
	goTo(to, { isPlayed: true });
}

/** Show what others have labelled: on the row at hand, and as a count of the others. */
function showEdited() {
	if (state.screen !== "label") return;
	const placeOf = (edit) => queue.findIndex((row) => row.id === edit.id), mine = state.edited.filter((edit) => queue[place]?.id === edit.id);
	const isTheirs = (edit) => edit.by && edit.column === task.column;
	passed += state.edited.filter((edit) => isTheirs(edit) && edit.value !== null && placeOf(edit) > place).length;
	for (const { by, value } of mine.filter(isTheirs)) fill(parts.news, t("label.other.by", { by: visible(by), label: visible(value ?? t("label.none")) }));
	if (mine.length) showKeys();
	showPlace();
}

/** Go back to the row whose label was taken back, also if it is no longer in the queue. */
async function showUndone() {
	if (state.screen !== "label" || !state.undone || parts.bar.hidden) return;
	const { edits: [edit] } = state.undone;
	let to = queue.findIndex((row) => row.id === edit.id);
	if (to < 0) {
		const row = await rowOf(edit.id).catch(() => null);
		if (!row) return;
		setValue(row, edit.column, edit.was);
		queue.splice((to = place), 0, row);
	}
	if (edit.column === task.column && edit.was === null) labelled--;
	goTo(to, { isPlayed: true });
	say(t("undo.label", { label: edit.value ?? "" }));
}

async function retrain() {
	if (isTraining) return;
	if (whyReadOnly()) return void warn(whyReadOnly());
	isTraining = true;
	fresh = 0;
	const name = shownName;
	parts.result.ariaBusy = "true";
	fill(parts.result, muted(t("training")));
	try {
		const job = await train(task.column, headOf(task));
		if (name !== shownName) return;
		state.collection.heads = [...(state.collection.heads ?? []).filter((head) => head.name !== job.head), { name: job.head, classes: job.labels }];
		fill(parts.result, resultOf(job, (id) => go({ screen: "find", row: id })));
		say(sentenceOf(job));
		showBar();
		if (WITH_HEAD.includes(by) && !parts.bar.hidden) await refill(false, AT_HAND);
	} catch (error) {
		if (name !== shownName) return;
		fill(parts.result, errorBox(messageOf(error)));
	} finally {
		isTraining = false;
		parts.result.ariaBusy = "false";
	}
}
