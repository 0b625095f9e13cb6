/* Names: what the digits give, and into which column. Kept in this browser for each collection. */

import { el } from "./dom.js";
import { recall, state, store } from "./state.js";

const TASKS_KEY = "embedx.tasks";
export const MAX_NAMES = 9; // one for each digit
export const MAX_LENGTH = 200; // of a name
export const YES_NO = ["yes", "no"];

export function nameField(words, take, attributes = {}) {
	const give = (event) => event.key === "Enter" && field.value.trim() && take(field.value.trim());
	const field = el("input.own", { type: "text", maxlength: MAX_LENGTH, placeholder: words, "aria-label": words, ...attributes, keydown: give });
	return field;
}

export function valuesOf(column) {
	const values = state.collection?.columns?.find((one) => one.name === column)?.values ?? [];
	return values.filter((value) => typeof value === "string");
}

/** Return the task: {column, names}; without a chosen one the labels that there are. */
export function taskOf() {
	const kept = recall(TASKS_KEY)?.[state.collection?.name];
	const isTask = typeof kept?.column === "string" && Array.isArray(kept.names) && kept.names.every((name) => typeof name === "string");
	return isTask ? kept : { column: "label", names: valuesOf("label").slice(0, MAX_NAMES) };
}

export function setTask(task) {
	store(TASKS_KEY, { ...recall(TASKS_KEY), [state.collection.name]: task });
}

export function namesOf() {
	const task = taskOf();
	return task.column === "label" ? task.names : valuesOf("label").slice(0, MAX_NAMES);
}

/** Give a new label a digit, where one is free. */
export function addName(value) {
	const names = namesOf(), column = state.collection.columns.find((one) => one.name === "label");
	if (column && !column.values?.includes(value)) column.values = [...(column.values ?? []), value];
	if (taskOf().column === "label" && !names.includes(value) && names.length < MAX_NAMES) setTask({ column: "label", names: [...names, value] });
}

export const isYesNo = ({ column }) => column !== "label";

export const headOf = ({ column }) => (column === "label" ? "live" : `live-${column.replace(/[^A-Za-z0-9_.-]/g, "_")}`.slice(0, 100));
