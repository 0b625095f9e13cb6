/* What the filter offers: columns, their values with counts while typing, ranges of numbers, and the condition as SQL. */

import { getJson, path, withFields } from "./api.js";
import { button, debounce, el, fill, iconButton, mutedWord, nameOf, visible } from "./dom.js";
import { closeFilter, conditionsOf, countRows, joined, showProblem } from "./filter.js";
import { state } from "./state.js";
import { number, t } from "./words.js";

const REST_MS = 120; // of the typing hand, before the server is asked
const MAX_OFFERS = 20;
const OWN_COLUMNS = ["label", "group", "split", "path", "duration_s", "start_s"]; // of every collection

let panel, changed, list, field, offers = [], active = -1, column = null;

const quoted = (name) => (/^[a-z_]\w*$/i.test(name) && name !== "group" ? name : `"${name.replaceAll('"', '""')}"`);
const text = (value) => (typeof value === "number" ? String(value) : `'${String(value).replaceAll("'", "''")}'`);

function open(label, input, below) {
  field = input;
  panel.hidden = false;
  fill(panel, el("label", { for: "filterfield" }, label), input, below, iconButton("close", t("close"), closeFilter, "corner"));
  input.focus();
}

function combobox(label, choose, offer) {
  list = el("ul.offers", { role: "listbox", id: "filteroffers", "aria-label": label });
  const input = el("input", {
    type: "text", id: "filterfield", role: "combobox", autocomplete: "off", spellcheck: "false", maxlength: 200,
    "aria-expanded": "true", "aria-controls": "filteroffers", "aria-autocomplete": "list",
    input: debounce(() => offer(input.value), REST_MS), keydown: (event) => pick(event, choose),
  });
  open(label, input, list);
  offer("");
}

function showOffers(found, choose) {
  offers = found;
  active = found.length ? 0 : -1;
  fill(list, found.map((one, index) => el("li", {
    role: "option", id: `offer${index}`, "aria-selected": index === active,
    pointerdown: (event) => event.preventDefault(), click: () => choose(one),
  }, nameOf(one.name, 40), mutedWord(one.note ?? ""))));
  if (!found.length) fill(list, el("li.muted", { role: "option", "aria-disabled": "true" }, t("filter.nothing")));
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
  list.children[active].ariaSelected = "true";
  list.children[active].scrollIntoView({ block: "nearest" });
  field.setAttribute("aria-activedescendant", `offer${active}`);
}

/** Offer the columns in a panel; `change` gets the new condition. */
export function openColumns(node, change) {
  [panel, changed] = [node, change];
  const known = state.collection?.columns ?? [];
  const all = [...new Map([...known.map((one) => [one.name, one.kind]), ...OWN_COLUMNS.map((name) => [name, name.endsWith("_s") ? "number" : "text"])])];
  combobox(t("filter.column"), openValues, (typed) => {
    const part = typed.toLowerCase();
    const found = all.filter(([name]) => name.toLowerCase().includes(part)).map(([name, kind]) => ({ name, kind, note: t(`kind.${kind}`) }));
    found.sort((a, b) => b.name.toLowerCase().startsWith(part) - a.name.toLowerCase().startsWith(part));
    showOffers([...found, { name: t("filter.sql.write"), sql: true }].slice(0, MAX_OFFERS), openValues);
  });
}

async function openValues(chosen) {
  if (chosen.sql) return openSql(panel, changed);
  column = chosen;
  if (chosen.kind === "number") return openRange();
  const choose = (one) => add(one.value === null ? `${quoted(column.name)} IS NULL` : `${quoted(column.name)} = ${text(one.value)}`);
  combobox(t("filter.value", { column: visible(chosen.name) }), choose, async (typed) => {
    showOffers(await valuesOf(chosen.name, typed), choose);
  });
}

async function valuesOf(name, prefix) {
  const fields = { column: name, prefix, filter: state.question.where || null, limit: MAX_OFFERS };
  const { values } = await getJson(withFields(path("/values"), fields)).catch(() => ({ values: [] }));
  return values.map((one) => ({ value: one.value, name: one.value === null ? t("none") : String(one.value), note: number(one.rows, 0) }));
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
  open(t("filter.value", { column: visible(column.name) }), low, el("span.row", t("filter.until"), high, button(t("apply"), apply)));
}

const add = (condition) => changed(joined([...conditionsOf(state.question.where), condition]));

export function openSql(node, change) {
  [panel, changed] = [node, change];
  const found = el("p.muted", { "aria-live": "polite" });
  const area = el("textarea", { id: "filterfield", rows: 2, spellcheck: "false", maxlength: 10_000, value: state.question.where });
  const check = debounce(async () => {
    const problem = await countRows(area.value.trim(), found).then(() => null, (error) => error);
    if (area.isConnected) showProblem(problem, area.value);
  }, REST_MS);
  area.addEventListener("input", check);
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    changed(area.value.trim());
  });
  open(t("filter.sql.label"), area, el("span.row", button(t("apply"), () => changed(area.value.trim())), found));
}
