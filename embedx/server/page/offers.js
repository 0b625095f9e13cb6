/* What the filter offers: columns, values with counts, ranges, SQL. */

import { getJson, path, withFields } from "./api.js";
import { button, debounce, el, fill, iconButton, mutedWord, nameOf, visible } from "./dom.js";
import { closeFilter, conditionsOf, fieldOf, joined, quotedName, quotedValue, setFilter, showCount, showProblem } from "./filter.js";
import { state } from "./state.js";
import { number, plain, t } from "./words.js";

const REST_MS = 120; // of the typing hand, before the server is asked
const MAX_OFFERS = 20;
const OWN_COLUMNS = ["label", "group", "split", "path", "duration_s", "start_s"]; // of every collection

let panel, list, field, offers = [], active = -1;

function open(label, input, ...below) {
	field = input;
	if (input.parentNode !== panel) fill(panel, input);
	input.before(el("label", { for: "filterfield" }, label));
	input.after(...below, iconButton("close", t("close"), closeFilter, "corner"));
	input.focus();
}

/** Open a field with a list below it; `offer` gets what is typed and returns what is offered. */
function combobox(label, choose, offer, input = fieldOf("input")) {
	offers = [];
	list = el("ul.offers", { role: "listbox", id: "filteroffers", "aria-label": label });
	Object.assign(input, { role: "combobox", autocomplete: "off", maxLength: 200, ariaExpanded: "true", ariaAutoComplete: "list" });
	input.setAttribute("aria-controls", "filteroffers");
	let offered = null; // the text that the list belongs to
	const update = async () => {
		const typed = input.value;
		if (typed === offered) return;
		const found = await offer(typed);
		if (!input.isConnected || typed !== input.value) return;
		offered = typed;
		showOffers(found, choose);
	};
	input.addEventListener("input", debounce(update, REST_MS));
	input.addEventListener("keydown", async (event) => {
		if (event.key !== "Enter") return step(event);
		event.preventDefault();
		await update();
		if (offered === input.value && input.isConnected && offers[active]) choose(offers[active]);
	});
	open(label, input, list);
	update();
}

function showOffers(found, choose) {
	offers = found;
	fill(list, found.map((one, index) => el("li", {
		role: "option", id: `offer${index}`, pointerdown: (event) => event.preventDefault(), click: () => choose(one),
	}, nameOf(one.name, 40), mutedWord(one.note ?? ""))));
	if (!found.length) fill(list, el("li.muted", { role: "option", "aria-disabled": "true" }, t("filter.nothing")));
	activate(found.length ? 0 : -1);
}

function activate(index) {
	active = index;
	[...list.children].forEach((node, i) => (node.ariaSelected = i === active));
	list.children[active]?.scrollIntoView({ block: "nearest" });
	field.setAttribute("aria-activedescendant", active >= 0 ? `offer${active}` : "");
}

function step(event) {
	const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
	if (!by || !offers.length) return;
	event.preventDefault();
	activate((active + by + offers.length) % offers.length);
}

export function openColumns(node, input) {
	panel = node;
	const known = state.collection?.columns ?? [];
	const all = [...new Map([...known.map((one) => [one.name, one.kind]), ...OWN_COLUMNS.map((name) => [name, name.endsWith("_s") ? "number" : "text"])])];
	combobox(t("filter.column"), openValues, (typed) => {
		const part = typed.toLowerCase();
		const found = all.filter(([name]) => name.toLowerCase().includes(part)).map(([name, kind]) => ({ name, kind, note: t(`kind.${kind}`) }));
		found.sort((a, b) => b.name.toLowerCase().startsWith(part) - a.name.toLowerCase().startsWith(part));
		return [...found, { name: t("filter.sql.write"), sql: true }].slice(0, MAX_OFFERS);
	}, input);
}

function openValues(chosen) {
	if (chosen.sql) return openSql(panel);
	if (chosen.kind === "number") return openRange(chosen.name);
	const column = quotedName(chosen.name), choose = ({ value }) => add(value === null ? `${column} IS NULL` : `${column} = ${quotedValue(value)}`);
	combobox(t("filter.value", { column: visible(chosen.name) }), choose, (typed) => valuesOf(chosen.name, typed));
}

async function valuesOf(name, prefix) {
	const fields = { column: name, prefix, filter: state.question.where || null, limit: MAX_OFFERS };
	const { values } = await getJson(withFields(path("/values"), fields)).catch(() => ({ values: [] }));
	return values.map((one) => ({ value: one.value, name: one.value === null ? t("none") : String(one.value), note: number(one.rows, 0) }));
}

function openRange(name) {
	const bound = (side) => el("input", { type: "number", step: "any", "aria-label": t(`filter.${side}`), keydown: (event) => event.key === "Enter" && apply() });
	const low = bound("low"), high = bound("high"), column = quotedName(name);
	low.id = "filterfield";
	const apply = () => {
		const conditions = [low.value && `${column} >= ${low.value}`, high.value && `${column} <= ${high.value}`].filter(Boolean);
		if (conditions.length) add(conditions.length === 2 ? `(${joined(conditions)})` : conditions[0]);
	};
	open(t("filter.value", { column: visible(name) }), low, el("span.row", t("filter.until"), high, button(t("apply"), apply)));
	const hint = (value) => (Number.isFinite(value) ? plain(value, 2) : "");
	getJson(withFields(path("/values"), { column: name, limit: 1 }))
		.then(({ min, max }) => ([low.placeholder, high.placeholder] = [hint(min), hint(max)])).catch(() => null);
}

const add = (condition) => setFilter(joined([...conditionsOf(state.question.where), condition]));

export function openSql(node, area = fieldOf("textarea", state.question.where)) {
	panel = node;
	const found = el("p.muted", { "aria-live": "polite" }), apply = () => setFilter(area.value.trim());
	const check = debounce(async () => {
		if (!area.isConnected) return;
		const problem = await showCount(area.value.trim(), found).then(() => null, (error) => error);
		if (area.isConnected) showProblem(problem, area.value);
	}, REST_MS);
	area.setAttribute("maxlength", 10_000);
	area.addEventListener("input", check);
	area.addEventListener("keydown", (event) => {
		if (event.key !== "Enter" || event.shiftKey) return;
		event.preventDefault();
		apply();
	});
	open(t("filter.sql.label"), area, el("span.row", button(t("apply"), apply), found));
}
