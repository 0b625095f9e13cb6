/* Labels and steps back: what is typed is kept in this browser until the server has it, and each step can be undone. */

import { ApiError, path, post } from "./api.js";
import { say, warn } from "./dom.js";
import { on, recall, set, state, store } from "./state.js";
import { messageOf, t } from "./words.js";

const QUEUE_KEY = "embedx.edits";
const STEPS_KEY = "embedx.steps";
const MAX_STEPS = 200; // that can be undone in a tab, across reloads
const ASK_FROM = 1000; // rows of one edit, above which it is asked first

const queue = recall(QUEUE_KEY) ?? []; // edits that the server does not have yet, oldest first
const steps = recall(STEPS_KEY, () => sessionStorage) ?? [];
const undone = [];
const kinds = new Map();
let isSending = false;

/** Say how a kind of step is undone and done again: functions of the step. */
export function stepKind(name, undoStep, redoStep) {
  kinds.set(name, { undo: undoStep, redo: redoStep });
}

/** Remember a step. What was undone before it cannot be done again. */
export function remember(step) {
  undone.length = 0;
  keep(step);
}

function keep(step) {
  steps.push({ ...step, collection: state.collection?.name });
  steps.splice(0, Math.max(0, steps.length - MAX_STEPS));
  store(STEPS_KEY, steps, () => sessionStorage);
}

/** Undo the last step of this tab. */
export async function undo() {
  const place = steps.findLastIndex((step) => step.collection === state.collection?.name);
  if (place < 0) return say(t("undo.none"));
  const [step] = steps.splice(place, 1);
  store(STEPS_KEY, steps, () => sessionStorage);
  if ((await kinds.get(step.kind).undo(step)) !== false) undone.push(step);
}

/** Do again what was undone last. */
export async function redo() {
  const step = undone.pop();
  if (!step) return say(t("redo.none"));
  keep(step);
  await kinds.get(step.kind).redo(step);
}

/** Return why labels cannot be given, "" if they can. */
export function whyReadOnly() {
  return state.collection?.writable ? "" : t("err.readonly");
}

/** Give rows a label, at once on the page and soon in the store; null takes the label away. */
export function giveLabel(rows, value, column = "label") {
  const reason = whyReadOnly();
  if (reason) return void warn(reason);
  if (rows.length > ASK_FROM && !confirm(t("label.many", { n: rows.length }))) return;
  const edits = rows.map((row) => ({ id: row.id, column, value, was: row[column] ?? null }));
  remember({ kind: "label", key: give(edits), edits });
  say(value === null ? t("label.removed") : t("label.given", { label: value }));
}

/** Put edits into the queue, and return their key, which makes repeats harmless. */
function give(edits) {
  const key = newKey();
  queue.push({ key, collection: state.collection.name, edits });
  show(edits, "value");
  changed();
  send();
  return key;
}

/** Show values of edits on the page: what was given, or what was there before. */
function show(edits, field) {
  set({ edited: edits.map((edit) => ({ id: edit.id, column: edit.column, value: edit[field] })) });
}

function newKey() {
  return crypto.randomUUID?.() ?? Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function changed() {
  store(QUEUE_KEY, queue);
  set({ waiting: queue.reduce((sum, one) => sum + one.edits.length, 0) });
}

/** Send the edits, in their order; what the server refuses is taken back and explained. */
async function send() {
  if (isSending) return;
  isSending = true;
  while (queue.length) {
    const [edit] = queue;
    try {
      const answer = await postEdits(edit);
      const step = steps.find((one) => one.key === edit.key);
      if (step) Object.assign(step, { revision: answer.revision });
      store(STEPS_KEY, steps, () => sessionStorage);
      if (answer.conflicts?.length) warn(t("label.conflict", { n: answer.conflicts.length, value: answer.conflicts[0].value ?? "" }));
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 0 || error.status === 401 || error.status >= 500 || error.status === 429) break;
      show(edit.edits, "was");
      warn(messageOf(error));
    }
    queue.shift();
    changed();
  }
  isSending = false;
}

function postEdits({ key, collection, edits }) {
  return post(path("/labels", collection), { key, edits, ...(state.settings.name ? { by: state.settings.name } : {}) });
}

/** Take a label back: out of the queue, or by an edit of the server that holds only if the cell is still mine. */
async function undoLabel(step) {
  const place = queue.findIndex((one) => one.key === step.key);
  if (place > 0 || (place === 0 && !isSending)) {
    queue.splice(place, 1);
    changed();
  } else if (step.revision) {
    try {
      await post(path("/labels/undo"), { revision: step.revision, key: newKey() });
    } catch (error) {
      warn(error.status === 409 ? t("undo.conflict") : messageOf(error));
      return false;
    }
  }
  show(step.edits, "was");
  say(t("undo.label", { label: step.edits[0].value ?? "" }));
  return true;
}

stepKind("label", undoLabel, (step) => {
  step.key = give(step.edits);
  step.revision = null;
});
on("offline collection", () => !state.offline && send());
