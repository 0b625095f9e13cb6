/* Labels and steps back. What is typed is kept in this browser until the server has it. */

import { go } from "./address.js";
import { ApiError, path, post } from "./api.js";
import { say, warn } from "./dom.js";
import { forget, heldRows, on, recall, recallAll, set, state, store } from "./state.js";
import { messageOf, t } from "./words.js";

const EDIT_KEY = "embedx.edit."; // of what the server does not have yet
const CONFLICT_KEY = "embedx.conflict."; // of edits that met the value of somebody else
const STEPS_KEY = "embedx.steps";
const MAX_STEPS = 200; // that can be undone in a tab, across reloads
const ASK_FROM = 1000; // rows of one edit, above which it is asked first
const MAX_BATCH = 100; // edits of one request, but for those of one step
const AGAIN_MS = 5000; // after a server that was too busy
const MAX_KEPT_ALIVE = 60_000; // bytes of a request that outlives its tab: browsers allow 64 KiB

const queue = recallAll(EDIT_KEY).filter((one) => Array.isArray(one?.edits)).sort((one, other) => one.time - other.time);
const steps = recall(STEPS_KEY, "sessionStorage") ?? [];
const open = recallAll(CONFLICT_KEY).filter((one) => one?.mine?.length && one.theirs?.length);
const undone = [];
const kinds = {
	label: { undo: undoLabel, redo: (step) => (step.key = send(step.edits)) },
	refine: { undo: ({ before }) => (go({ question: before }), say(t("refined.undone"))), redo: ({ after }) => go({ question: after }) },
};
let isSending = false, lastTime = 0;

/** Remember a step. What was undone before it cannot be done again. */
export function remember(step) {
	undone.length = 0;
	keep({ ...step, collection: state.collection?.name });
}

function keep(step) {
	steps.push(step);
	steps.splice(0, steps.length - MAX_STEPS);
	storeSteps();
}

const storeSteps = () => store(STEPS_KEY, steps, "sessionStorage");

/** Take the last step of this collection out of a list, and undo or redo it. */
function takeLast(from, way) {
	const place = from.findLastIndex(({ collection }) => collection === state.collection?.name);
	if (place < 0) return void say(t(way === "undo" ? "undo.none" : "redo.none"));
	const [step] = from.splice(place, 1);
	kinds[step.kind][way](step);
	return step;
}

export function undo() {
	const step = takeLast(steps, "undo");
	if (step) undone.push(step);
	storeSteps();
}

export function redo() {
	const step = takeLast(undone, "redo");
	if (step) keep(step);
}

export const whyReadOnly = () => (state.collection?.writable ? "" : t("err.readonly"));

export const valueOf = (row, column) => (column in row ? row[column] : row.meta?.[column]) ?? null;

export function setValue(row, column, value) {
	if (column in row) row[column] = value;
	else row.meta = { ...row.meta, [column]: value };
}

export const isLabelled = (row, column) => valueOf(row, column) !== null || valueOf(row, "review") !== null;

/** Give rows a label, at once on the page and soon in the store; null takes it away. Return whether it was given. */
export function giveLabel(rows, value, column = "label") {
	const reason = whyReadOnly();
	if (reason) return void warn(reason);
	if (rows.length > ASK_FROM && !confirm(t("label.many", { n: rows.length }))) return false;
	giveEdits(rows.map((row) => ({ id: row.id, column, value, was: valueOf(row, column) })));
	say(value ?? t("label.removed"));
	return true;
}

/** Set values of rows, in one step that can be undone: edits are {id, column, value, was}. */
const giveEdits = (edits) => remember({ kind: "label", edits, key: send(edits) });

function send(edits) {
	const time = (lastTime = Math.max(Date.now(), lastTime + 1));
	const one = { key: newKey(), time, collection: state.collection.name, edits };
	queue.push(one);
	store(EDIT_KEY + one.key, one);
	showEdits(edits);
	tell();
	work();
	return one.key;
}

export function showEdits(edits) {
	for (const row of heldRows()) for (const { id, column, value } of edits) if (row.id === id) setValue(row, column, value);
	set({ edited: edits });
}

const reversed = (edits) => edits.map((edit) => ({ ...edit, value: edit.was, was: edit.value }));

/** Return a random key, also where a page without https has no randomUUID. */
const newKey = () => crypto.randomUUID?.() ?? crypto.getRandomValues(new Uint32Array(4)).join("");

const tell = () => set({ waiting: queue.reduce((sum, one) => sum + one.edits.length, 0) });

const sameCell = (one) => ({ id, column }) => id === one.id && column === one.column;

export const isWaiting = (id, column) => queue.some(({ edits }) => edits.some(sameCell({ id, column })));

/** Send the edits in their order; what the server refuses is taken back. */
async function work() {
	if (isSending) return;
	isSending = true;
	while (queue.length) {
		const batch = nextBatch(), [one] = batch;
		try {
			const { revision, conflicts = [] } = await postEdits(batch);
			set({ sent: revision });
			batch.forEach(drop);
			for (const each of batch) explain(each, conflicts);
		} catch (error) {
			const { status } = error;
			if (!(error instanceof ApiError) || [0, 401, 429].includes(status) || status >= 500) {
				if (status !== 0) setTimeout(work, AGAIN_MS);
				break;
			}
			if (batch.length > 1) continue; // one is refused: now each goes by itself
			drop(one);
			showEdits(reversed(one.edits));
			warn(messageOf(error));
		}
	}
	isSending = false;
}

const cellsOf = (edited) => edited.flatMap(({ edits }) => edits.map(({ id, column }) => `${id} ${column}`));

/** Return the oldest edits, and those after them that set other cells and were not tried yet. */
function nextBatch(waiting = queue, cells = new Set()) {
	const [first] = waiting, batch = [];
	for (const one of waiting) {
		const own = cellsOf([one]), isOther = first.tried || one.tried || one.collection !== first.collection || cells.size >= MAX_BATCH;
		if (own.some((cell) => cells.has(cell)) || (one !== first && isOther)) break;
		batch.push(one);
		for (const cell of own) cells.add(cell);
	}
	return batch;
}

function drop(one) {
	queue.splice(queue.indexOf(one), 1);
	forget(EDIT_KEY + one.key);
	tell();
}

/** Send edits in one request. It is remembered that they were tried: an undo after a reload takes them back. */
function postEdits(batch) {
	const first = batch[0], last = batch.at(-1), by = state.settings.name || undefined;
	for (const one of batch) {
		one.tried = true;
		store(EDIT_KEY + one.key, one);
	}
	const body = { key: first === last ? first.key : `${first.key}.${last.key}`, edits: batch.flatMap((one) => one.edits), by };
	return post(path("/labels", first.collection), body, { keepalive: JSON.stringify(body).length < MAX_KEPT_ALIVE });
}

/** Send what was not sent yet, as the tab is closed. */
function sendLast() {
	const batch = nextBatch(queue.filter((one) => !one.tried), new Set(cellsOf(queue.filter((one) => one.tried))));
	if (batch.length) postEdits(batch).catch(() => null);
}

/** Show values of others that were not overwritten. */
function explain({ key, collection, edits }, conflicts) {
	const isMet = (edit) => conflicts.some(sameCell(edit)), mine = edits.filter(isMet);
	const theirs = conflicts.filter((one) => mine.some(sameCell(one)));
	if (!mine.length) return;
	const step = steps.find((one) => one.key === key);
	if (step) step.edits = step.edits.filter((edit) => !isMet(edit));
	if (step?.edits.length === 0) steps.splice(steps.indexOf(step), 1);
	storeSteps();
	if (collection === state.collection?.name) showEdits(theirs);
	const conflict = { key, collection, mine, theirs };
	store(CONFLICT_KEY + key, conflict);
	open.push(conflict);
	showConflicts();
}

async function showConflicts() {
	if (open.length) (await import("./conflict.js")).showConflicts(open, settle);
}

/** Decide a conflict: theirs stay, or mine are set over them. */
function settle(conflict, isMine) {
	open.splice(open.indexOf(conflict), 1);
	forget(CONFLICT_KEY + conflict.key);
	if (isMine) giveEdits(conflict.mine.map((edit) => ({ ...edit, was: conflict.theirs.find(({ id }) => id === edit.id).value })));
}

function undoLabel(step) {
	const one = queue.find(({ key }) => key === step.key);
	if (one && !one.tried) {
		drop(one);
		showEdits(reversed(step.edits));
	} else {
		step.key = send(reversed(step.edits));
	}
	say(t("undo.label", { label: step.edits[0].value ?? "" }));
	set({ undone: step });
}

on("offline collection locked", () => !state.offline && !state.locked && work());
on("collection", showConflicts);
addEventListener("pagehide", sendLast);
showConflicts();
