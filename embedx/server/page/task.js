/* The task: up to nine names, or a question to answer with yes or no. */

import { button, el, errorBox, fill, showText, visible } from "./dom.js";
import { MAX_LENGTH, MAX_NAMES, YES_NO, columnOf, isYesNo, setTask, taskOf, valuesOf } from "./names.js";
import { state } from "./state.js";
import { t } from "./words.js";

const MIN_VALUES = 2; // of a column of the metadata that is offered
const RESERVED = ["id", "path", "start_s", "end_s", "duration_s", "label", "group", "split", "flags", "review"];

export function makeTask(done, cancel) {
	const task = taskOf(), kind = (value) => el("input", { type: "radio", name: "kind", value, checked: isYesNo(task) === (value === "yesno"), change: show });
	const which = kind("which"), yesno = kind("yesno");
	const input = (words, value) => el("input", { type: "text", maxlength: MAX_LENGTH, value, "aria-label": words });
	const fields = Array.from({ length: MAX_NAMES }, (_, i) => input(t("task.name", { n: i + 1 }), isYesNo(task) ? "" : task.names[i] ?? ""));
	const question = input(t("task.column"), isYesNo(task) ? task.column : "");
	const names = el("div.names", fields.map((field, i) => el("label", el("kbd", i + 1), field)));
	const offers = el("div.row", offered().map(({ name, values }) =>
		button(t("task.take", { column: name, n: values.length }), () => fields.forEach((field, i) => (field.value = values[i] ?? "")), "small")));
	const asked = el("div.names", el("label", el("span", t("task.is")), question));
	const problem = errorBox();
	const form = el("form.task", { submit },
		el("h2", { tabindex: -1 }, t("task")),
		el("label", which, " ", t("task.which")), el("label", yesno, " ", t("task.yesno")),
		names, offers, asked, problem,
		el("div.row", el("button.primary", { type: "submit" }, t("task.start")), cancel && button(t("cancel"), cancel)));
	show();
	return form;

	function show() {
		names.hidden = offers.hidden = yesno.checked;
		asked.hidden = !yesno.checked;
	}

	function submit(event) {
		event.preventDefault();
		const given = [...new Set(fields.map((field) => field.value.trim()).filter(Boolean))], column = question.value.trim();
		const isTaken = RESERVED.includes(column) || valuesOf(column).some((value) => !YES_NO.includes(value)) || (columnOf(column)?.kind ?? "text") !== "text";
		const wrong = yesno.checked && isTaken ? t("task.taken", { column: visible(column) }) : (yesno.checked ? column : given.length) ? "" : t("task.empty");
		showText(problem, wrong);
		if (wrong) return;
		setTask(yesno.checked ? { column, names: YES_NO } : { column: "label", names: given });
		done();
	}
}

function offered() {
	return state.collection.columns.map(({ name }) => ({ name, values: valuesOf(name).slice(0, MAX_NAMES) }))
		.filter(({ name, values }) => values.length >= MIN_VALUES && !["split", "review"].includes(name));
}

export const message = (node, text, ...buttons) => fill(node, el("div.message", el("p", text), el("div.row", buttons)));
