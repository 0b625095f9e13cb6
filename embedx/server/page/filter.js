/* The filter: conditions as sentences, or as SQL. */

import { ask } from "./address.js";
import { latest } from "./api.js";
import { button, consume, el, errorBox, fill, icon, iconButton, nameOf, visible, warn } from "./dom.js";
import { commands } from "./keys.js";
import { countRows } from "./rows.js";
import { state } from "./state.js";
import { messageOf, t } from "./words.js";

const nextCount = latest();
let chips, panel, count, problem;

export function makeFilter() {
	chips = el("div.row.chips", { role: "group", "aria-label": t("filter") });
	count = el("span.muted.count");
	problem = errorBox();
	panel = el("div.panel", { hidden: true, keydown: (event) => event.key === "Escape" && (consume(event), closeFilter()) });
	commands({ filter: () => openPanel("openColumns") });
	return el("div.filter", chips, panel, problem);
}

/** Split a condition at the ANDs outside of quotes, brackets and BETWEEN. */
export function conditionsOf(where) {
	const found = [""];
	let depth = 0;
	for (const [part, and] of where.matchAll(/'[^']*'|"[^"]*"|\bbetween\s+\S+\s+and\b|\s(and)\s|[^]/gi)) {
		depth += (part === "(") - (part === ")");
		if (and && !depth) found.push("");
		else found.push(found.pop() + part);
	}
	return found.map((one) => one.trim()).filter(Boolean);
}

export const joined = (conditions) => conditions.join(" AND ");

const NAME = String.raw`("(?:[^"]|"")+"|\w+)`, VALUE = String.raw`('(?:[^']|'')*'|-?[\d.]+)`;
const SIGNS = { "=": "is", ">=": "from", "<=": "to", ">": "above", "<": "below", "!=": "not", "<>": "not" };
const FORMS = {
	is: new RegExp(`^${NAME}\\s*(=|>=|<=|>|<|!=|<>)\\s*${VALUE}$`, "s"),
	range: new RegExp(`^\\(${NAME} >= ${VALUE} AND ${NAME} <= ${VALUE}\\)$`, "s"),
	none: new RegExp(`^${NAME} IS NULL$`, "i"),
};
export const quotedName = (name) => (/^[a-z_]\w*$/i.test(name) && name !== "group" ? name : `"${name.replaceAll('"', '""')}"`);
export const quotedValue = (value) => (typeof value === "number" ? String(value) : `'${String(value).replaceAll("'", "''")}'`);
const bare = (part) => part.replace(/^(["'])(.*)\1$/s, "$2").replaceAll("''", "'").replaceAll('""', '"');

export function sentenceOf(condition) {
	const parts = (form) => FORMS[form].exec(condition)?.slice(1).map(bare);
	const is = parts("is"), range = parts("range"), none = parts("none");
	if (is) return t(`filter.${SIGNS[is[1]]}`, { column: is[0], value: is[2] });
	if (range && range[0] === range[2]) return t("filter.range", { column: range[0], low: range[1], high: range[3] });
	return none ? t("filter.none", { column: none[0] }) : condition;
}

export function showFilter(where) {
	const conditions = conditionsOf(where);
	fill(chips,
		...conditions.map((one, index) => el("span.chip", nameOf(sentenceOf(one), 60),
			iconButton("close", t("remove", { what: sentenceOf(one) }), () => setFilter(joined(conditions.toSpliced(index, 1))), "tiny"))),
		button([icon("plus"), t("filter")], () => openPanel("openColumns"), { class: "small", "aria-expanded": String(!panel.hidden) }),
		where && button(t("filter.sql"), () => openPanel("openSql"), "small plain"),
		count);
	showProblem(null);
	showCount(where, count).catch((error) => showProblem(error, where));
}

/** Return why a condition is wrong: in English as the server says it, else what matters; its place is marked. */
function reasonOf(why) {
	const [, column] = /^no such column: (.+?)(?: \(|$)/s.exec(why) ?? [];
	return document.documentElement.lang === "en" ? `${why}.` : t(column ? "why.column" : "why.other", { column });
}

export function showProblem(error, where = "") {
	problem.hidden = !error;
	if (!error) return;
	const { position, why, columns } = error.facts ?? {};
	fill(problem, why ? t("err.filter", { pos: position + 1, why: reasonOf(why), columns: columns.join(", ") }) : messageOf(error),
		Number.isInteger(position) && el("code.at", visible(where.slice(0, position)), el("mark", visible(where.slice(position) || "…"))));
	warn(problem.textContent);
}

/** Show how many rows a condition leaves; the only error is that of the condition. */
export async function showCount(where, node) {
	const signal = nextCount();
	try {
		node.textContent = t("rows", { n: await countRows(where, signal) });
	} catch (error) {
		if (!signal.aborted) node.textContent = "";
		if (error.code === "bad_filter") throw error;
	}
}

export const fieldOf = (kind, value = "") => el(kind, { id: "filterfield", spellcheck: "false", value });

/** Open the panel with its field at once: what is typed stays while offers come, and later. */
async function openPanel(name) {
	const kind = name === "openSql" ? "textarea" : "input", typed = panel.querySelector(kind);
	if (typed?.value) return typed.focus();
	const field = fieldOf(kind, kind === "input" ? "" : state.question.where);
	panel.hidden = false;
	fill(panel, field);
	field.focus();
	const offers = await import("./offers.js");
	if (field.isConnected) offers[name](panel, field);
}

export function closeFilter() {
	panel.hidden = true;
	fill(panel);
	chips.querySelector(":scope > button")?.focus();
}

export function setFilter(where) {
	closeFilter();
	ask({ where });
}
