/* The filter: conditions as sentences that can be removed, offered while typing, or written as SQL. */

import { getJson, path, post, withFields } from "./api.js";
import { button, debounce, el, fill, iconButton, icon, nameOf, say, visible, warn } from "./dom.js";
import { command } from "./keys.js";
import { state } from "./state.js";
import { messageOf, number, t } from "./words.js";

const REST_MS = 120; // of the typing hand, before the server is asked
const MAX_OFFERS = 20;
const OWN_COLUMNS = ["label", "group", "split", "path", "duration_s", "start_s"]; // of every collection

let part, chips, panel, count, problem, callbacks, list, field, offers = [], active = -1, column = null, request = null;

/** Make the part and return its element. `wanted` has change (called with the new condition). */
export function makeFilter(wanted) {
  callbacks = wanted;
  chips = el("div", { class: "chips", role: "group", "aria-label": t("filter") });
  count = el("span", { class: "muted count" });
  problem = el("p", { class: "error", hidden: true });
  panel = el("div", { class: "panel", hidden: true, on: { keydown: (event) => event.key === "Escape" && closePanel(event) } });
  part = el("div", { class: "filter" }, chips, panel, problem);
  command("filter", openColumns);
  return part;
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

/** Join conditions to one. */
export const joined = (conditions) => conditions.join(" AND ");

/** Return a name as SQL. */
const quoted = (name) => (/^[a-z_]\w*$/i.test(name) && name !== "group" ? name : `"${name.replaceAll('"', '""')}"`);
const text = (value) => (typeof value === "number" ? String(value) : `'${String(value).replaceAll("'", "''")}'`);
const NAME = String.raw`("(?:[^"]|"")+"|\w+)`, VALUE = String.raw`('(?:[^']|'')*'|-?[\d.]+)`;
const bare = (part) => part.replace(/^(["'])(.*)\1$/s, "$2").replaceAll("''", "'").replaceAll('""', '"');

/** Return a condition as a sentence, or as it is where it has another form. */
export function sentenceOf(condition) {
  const is = new RegExp(`^${NAME}\\s*(=|>=|<=|>|<|!=|<>)\\s*${VALUE}$`, "s").exec(condition);
  if (is) return t(`filter.${{ "=": "is", ">=": "from", "<=": "to", ">": "above", "<": "below", "!=": "not", "<>": "not" }[is[2]]}`, { column: bare(is[1]), value: bare(is[3]) });
  const range = new RegExp(`^\\(${NAME} >= ${VALUE} AND ${NAME} <= ${VALUE}\\)$`, "s").exec(condition);
  if (range && range[1] === range[3]) return t("filter.range", { column: bare(range[1]), low: bare(range[2]), high: bare(range[4]) });
  const none = new RegExp(`^${NAME} IS NULL$`, "i").exec(condition);
  return none ? t("filter.none", { column: bare(none[1]) }) : condition;
}

/** Show a condition, and how many rows it leaves. */
export function showFilter(where) {
  const conditions = conditionsOf(where);
  fill(chips,
    ...conditions.map((one, index) => el("span", { class: "chip" }, nameOf(sentenceOf(one), 60),
      iconButton("close", t("remove", { what: sentenceOf(one) }), () => callbacks.change(joined(conditions.filter((_, i) => i !== index))), { class: "tiny" }))),
    button([icon("plus"), t("filter.add")], openColumns, { class: "small", "aria-expanded": !panel.hidden }),
    where && button(t("filter.sql"), openSql, { class: "small plain" }),
    count);
  showProblem(null);
  countRows(where, count);
}

/** Show what is wrong with a condition, with the place of the mistake. */
export function showProblem(error, where = "") {
  problem.hidden = !error;
  if (!error) return;
  const { position } = error.facts ?? {};
  fill(problem, messageOf(error),
    Number.isInteger(position) ? el("code", { class: "at" }, visible(where.slice(0, position)), el("mark", {}, visible(where.slice(position) || "…"))) : null);
  warn(problem.textContent);
}

/** Write into an element how many rows a condition leaves; return the number, null if this server does not count. */
export async function countRows(where, node = null) {
  request?.abort();
  request = new AbortController();
  if (!where) {
    if (node) node.textContent = t("rows", { n: state.collection?.rows ?? 0 });
    return state.collection?.rows ?? 0;
  }
  try {
    const { rows } = await post(path("/count"), { filter: where }, { signal: request.signal });
    if (node) node.textContent = t("rows", { n: rows });
    return rows;
  } catch (error) {
    if (node && error.name !== "AbortError") node.textContent = "";
    if (error.code === "bad_filter") throw error;
    return null;
  }
}

/** Count the rows that each condition leaves alone, and without it. */
export async function explainConditions(where) {
  const conditions = conditionsOf(where);
  return Promise.all(conditions.map(async (one, index) => {
    const others = joined(conditions.filter((_, i) => i !== index));
    const counted = await post(path("/count"), { filter: others || "1" }).catch(() => ({ rows: null }));
    return { condition: one, others, without: others ? counted.rows : state.collection.rows };
  }));
}

function openPanel(label, input, below) {
  field = input;
  panel.hidden = false;
  fill(panel, el("label", { for: "filterfield" }, label), input, below,
    iconButton("close", t("close"), closePanel, { class: "corner" }));
  input.focus();
}

function closePanel(event) {
  event?.stopPropagation();
  event?.preventDefault();
  panel.hidden = true;
  fill(panel);
  chips.querySelector(":scope > button")?.focus();
}

function combobox(label, choose, offer) {
  list = el("ul", { class: "offers", role: "listbox", id: "filteroffers", "aria-label": label });
  const input = el("input", {
    type: "text", id: "filterfield", role: "combobox", autocomplete: "off", spellcheck: "false", maxlength: 200,
    "aria-expanded": "true", "aria-controls": "filteroffers", "aria-autocomplete": "list",
    on: { input: debounce(() => offer(input.value), REST_MS), keydown: (event) => pick(event, choose) },
  });
  openPanel(label, input, list);
  offer("");
}

function showOffers(found, choose) {
  offers = found;
  active = found.length ? 0 : -1;
  fill(list, found.map((one, index) => el("li", {
    role: "option", id: `offer${index}`, "aria-selected": index === active,
    on: { pointerdown: (event) => event.preventDefault(), click: () => choose(one) },
  }, nameOf(one.name, 40), el("span", { class: "muted" }, one.note ?? ""))));
  if (!found.length) fill(list, el("li", { class: "muted", role: "option", "aria-disabled": "true" }, t("filter.nothing")));
  field.setAttribute("aria-activedescendant", active >= 0 ? `offer${active}` : "");
}

function pick(event, choose) {
  if (event.key === "Enter") {
    event.preventDefault();
    if (offers[active]) choose(offers[active]);
    return;
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || !offers.length) return;
  event.preventDefault();
  list.children[active]?.setAttribute("aria-selected", "false");
  active = (active + step + offers.length) % offers.length;
  list.children[active].setAttribute("aria-selected", "true");
  list.children[active].scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", `offer${active}`);
}

/** Offer the columns. */
function openColumns() {
  const known = state.collection?.columns ?? [];
  const all = [...new Map([...known.map((one) => [one.name, one.kind]), ...OWN_COLUMNS.map((name) => [name, name.endsWith("_s") ? "real" : "text"])])];
  combobox(t("filter.column"), openValues, (typed) => {
    const part = typed.toLowerCase();
    const found = all.filter(([name]) => name.toLowerCase().includes(part)).map(([name, kind]) => ({ name, kind, note: t.has(`kind.${kind}`) ? t(`kind.${kind}`) : kind }));
    found.sort((a, b) => b.name.toLowerCase().startsWith(part) - a.name.toLowerCase().startsWith(part));
    showOffers([...found, { name: t("filter.sql.write"), sql: true }].slice(0, MAX_OFFERS), openValues);
  });
}

/** Offer the values of a column with their counts, or a range of a number. */
async function openValues(chosen) {
  if (chosen.sql) return openSql();
  column = chosen;
  if (["real", "integer", "number", "float", "int"].includes(chosen.kind)) return openRange();
  const choose = (one) => add(one.value === null ? `${quoted(column.name)} IS NULL` : `${quoted(column.name)} = ${text(one.value)}`);
  combobox(t("filter.value", { column: visible(chosen.name) }), choose, async (typed) => {
    showOffers(await valuesOf(chosen.name, typed), choose);
  });
}

async function valuesOf(name, prefix) {
  const where = state.question.where || null;
  try {
    const { values } = await getJson(withFields(path("/values"), { column: name, prefix, filter: where, limit: MAX_OFFERS }));
    return values.map((one) => ({ value: one.value, name: one.value === null ? t("none") : String(one.value), note: number(one.rows, 0) }));
  } catch {
    const known = state.collection.columns.find((one) => one.name === name)?.values ?? [];
    const fits = known.filter((value) => String(value).toLowerCase().includes(prefix.toLowerCase()));
    const offered = fits.map((value) => ({ value, name: String(value) }));
    return offered.length || !prefix ? offered.slice(0, MAX_OFFERS) : [{ value: prefix, name: prefix }];
  }
}

async function openRange() {
  const facts = await getJson(withFields(path("/values"), { column: column.name, limit: 1 })).catch(() => ({}));
  const hint = (value) => (Number.isFinite(value) ? number(value, 2) : "");
  const low = el("input", { type: "number", step: "any", id: "filterfield", placeholder: hint(facts.min), "aria-label": t("filter.low") });
  const high = el("input", { type: "number", step: "any", placeholder: hint(facts.max), "aria-label": t("filter.high") });
  const name = quoted(column.name);
  const apply = () => {
    const conditions = [low.value && `${name} >= ${low.value}`, high.value && `${name} <= ${high.value}`].filter(Boolean);
    if (conditions.length) add(conditions.length === 2 ? `(${joined(conditions)})` : conditions[0]);
  };
  const onEnter = (event) => event.key === "Enter" && apply();
  low.addEventListener("keydown", onEnter);
  high.addEventListener("keydown", onEnter);
  openPanel(t("filter.value", { column: visible(column.name) }), low, el("span", { class: "row" }, t("filter.until"), high, button(t("apply"), apply)));
}

function add(condition) {
  closePanel();
  callbacks.change(joined([...conditionsOf(state.question.where), condition]));
}

/** Show and edit the condition as SQL; the count follows while it is typed. */
function openSql() {
  const found = el("p", { class: "muted", "aria-live": "polite" });
  const area = el("textarea", { id: "filterfield", rows: 2, spellcheck: "false", maxlength: 10_000, value: state.question.where });
  const check = debounce(async () => {
    try {
      await countRows(area.value.trim(), found);
      showProblem(null);
    } catch (error) {
      showProblem(error, area.value);
    }
  }, REST_MS);
  area.addEventListener("input", check);
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    callbacks.change(area.value.trim());
  });
  openPanel(t("filter.sql.label"), area, el("span", { class: "row" }, button(t("apply"), () => callbacks.change(area.value.trim())), found));
  say(t("filter.sql.label"));
}

/** Close the panel after a condition has been taken. */
export function closeFilter() {
  if (!panel.hidden) closePanel();
}
