/* Names: what the digits give, and into which column; kept in this browser. */

import { button, el, nameOf } from "./dom.js";
import { recall, state, store } from "./state.js";

const TASKS_KEY = "embedx.tasks";
export const MAX_NAMES = 9; // one for each digit
export const MAX_LENGTH = 200;
export const YES_NO = ["yes", "no"];

export function nameField(words, take, attributes = {}) {
	const give = ({ key, target }) => key === "Enter" && target.value.trim() && take(target.value.trim());
	return el("input.own", { type: "text", maxlength: MAX_LENGTH, placeholder: words, "aria-label": words, ...attributes, keydown: give });
}

export const columnOf = (name) => state.collection?.columns?.find((one) => one.name === name);

export function valuesOf(column) {
	return (columnOf(column)?.values ?? []).filter((value) => typeof value === "string");
}

/** Return the task: {column, names}; without a chosen one the labels that there are. */
export function taskOf() {
	return recall(TASKS_KEY)?.[state.collection?.name] ?? { column: "label", names: valuesOf("label").slice(0, MAX_NAMES) };
}

export function setTask(task) {
	store(TASKS_KEY, { ...recall(TASKS_KEY), [state.collection.name]: task });
}

export function namesOf() {
	const task = taskOf();
	return isYesNo(task) ? valuesOf("label").slice(0, MAX_NAMES) : task.names;
}

export function addName(value) {
	const names = namesOf(), column = columnOf("label");
	if (column && !column.values?.includes(value)) column.values = [...(column.values ?? []), value];
	if (!isYesNo(taskOf()) && !names.includes(value) && names.length < MAX_NAMES) setTask({ column: "label", names: [...names, value] });
}

/** Return a button for each name, with its digit; `give` gets the digit. */
export const digitButtons = (names, chosen, give, attributes = {}) => names.map((name, i) =>
	button([el("kbd", i + 1), el("span.keyname", nameOf(name, 60))], () => give(i + 1), { "aria-pressed": String(name === chosen), ...attributes }));

export const isYesNo = ({ column }) => column !== "label";

export const headOf = (task) => (isYesNo(task) ? `live-${task.column.replace(/[^A-Za-z0-9_.-]/g, "_")}`.slice(0, 100) : "live");
