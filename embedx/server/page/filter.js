/* The filter: conditions as sentences that can be removed, offered while typing, or written as SQL. */

import { path, post } from "./api.js";
import { button, el, errorBox, fill, icon, iconButton, nameOf, visible, warn } from "./dom.js";
import { command } from "./keys.js";
import { state } from "./state.js";
import { messageOf, t } from "./words.js";

let chips, panel, count, problem, callbacks, request = null;

export function makeFilter(wanted) {
	callbacks = wanted;
	chips = el("div.row.chips", { role: "group", "aria-label": t("filter") });
	count = el("span.muted.count");
	problem = errorBox();
	panel = el("div.panel", { hidden: true, keydown: (event) => event.key === "Escape" && (event.preventDefault(), closeFilter()) });
	command("filter", () => openPanel("openColumns"));
	return el("div.filter", chips, panel, problem);
}

/** Split a condition at the ANDs outside of quotes and brackets. */
export function conditionsOf(where) {
	const found = [];
	let depth = 0, quote = "", from = 0;
	for (let i = 0; i < where.length; i++) {
		const sign = where[i];
		if (quote) quote = sign === quote ? "" : quote;
		else if (sign === "'" || sign === '"') quote = sign;
		else if (sign === "(") depth++;
		else if (sign === ")") depth--;
		else if (!depth && /\sand\s/i.test(where.slice(i, i + 5)) && !/\bbetween\s+\S+$/i.test(where.slice(from, i))) {
			found.push(where.slice(from, i));
			from = i + 5;
			i += 4;
		}
	}
	return [...found, where.slice(from)].map((one) => one.trim()).filter(Boolean);
}

export const joined = (conditions) => conditions.join(" AND ");

const NAME = String.raw`("(?:[^"]|"")+"|\w+)`, VALUE = String.raw`('(?:[^']|'')*'|-?[\d.]+)`;
const SIGNS = { "=": "is", ">=": "from", "<=": "to", ">": "above", "<": "below", "!=": "not", "<>": "not" };
const bare = (part) => part.replace(/^(["'])(.*)\1$/s, "$2").replaceAll("''", "'").replaceAll('""', '"');

export function sentenceOf(condition) {
	const is = new RegExp(`^${NAME}\\s*(=|>=|<=|>|<|!=|<>)\\s*${VALUE}$`, "s").exec(condition);
	if (is) return t(`filter.${SIGNS[is[2]]}`, { column: bare(is[1]), value: bare(is[3]) });
	const range = new RegExp(`^\\(${NAME} >= ${VALUE} AND ${NAME} <= ${VALUE}\\)$`, "s").exec(condition);
	if (range && range[1] === range[3]) return t("filter.range", { column: bare(range[1]), low: bare(range[2]), high: bare(range[4]) });
	const none = new RegExp(`^${NAME} IS NULL$`, "i").exec(condition);
	return none ? t("filter.none", { column: bare(none[1]) }) : condition;
}

export function showFilter(where) {
	const conditions = conditionsOf(where);
	fill(chips,
		...conditions.map((one, index) => el("span.chip", nameOf(sentenceOf(one), 60),
			iconButton("close", t("remove", { what: sentenceOf(one) }), () => callbacks.change(joined(conditions.filter((_, i) => i !== index))), "tiny"))),
		button([icon("plus"), t("filter")], () => openPanel("openColumns"), { class: "small", "aria-expanded": !panel.hidden }),
		where && button(t("filter.sql"), () => openPanel("openSql"), "small plain"),
		count);
	showProblem(null);
	countRows(where, count).catch(() => null); // the search says what is wrong
}

export function showProblem(error, where = "") {
	problem.hidden = !error;
	if (!error) return;
	const { position, why, columns } = error.facts ?? {};
	fill(problem, why ? t("err.filter", { pos: position + 1, why, columns: columns.join(", ") }) : messageOf(error),
		Number.isInteger(position) ? el("code.at", visible(where.slice(0, position)), el("mark", visible(where.slice(position) || "…"))) : null);
	warn(problem.textContent);
}

/** Write into an element how many rows a condition leaves; the only error is that of the condition. */
export async function countRows(where, node) {
	request?.abort();
	const { signal } = (request = new AbortController());
	try {
		const { rows } = where ? await post(path("/count"), { filter: where }, { signal }) : state.collection ?? { rows: 0 };
		node.textContent = t("rows", { n: rows });
	} catch (error) {
		if (error.name !== "AbortError") node.textContent = "";
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
	if (field.isConnected) offers[name](panel, callbacks.change, field);
}

export function closeFilter() {
	panel.hidden = true;
	fill(panel);
	chips.querySelector(":scope > button")?.focus();
}
