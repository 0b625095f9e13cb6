/* The screen Find: a question, its answer, and the row that is looked at. */

import { button, checkbox, choice, el, say } from "./dom.js";
import { closeFilter, makeFilter, showFilter, showProblem as showFilterProblem } from "./filter.js";
import * as hits from "./hits.js";
import { command } from "./keys.js";
import { makeQuery, showProblem, showQuestion } from "./query.js";
import { rowOf } from "./rows.js";
import { PAGES, isAsked, search, withBase } from "./search.js";
import { on, set, state } from "./state.js";
import { messageOf, t } from "./words.js";

let panel, inspectorPart = null, request = null, page = 0, isMore = false, isAsking = false, isCut = false, count, group, diverse, measure, ask, stepsPart = null;

/** Make the screen and return its element. `go` takes a question to the address, which shows it. */
export function makeFind(go) {
  ask = go;
  const callbacks = { ask, refine, without, isAsked, leave: () => request?.abort() };
  count = el("p.count", { id: "count" });
  measure = el("p.muted.measure");
  const groups = [["", t("group.none")], ["recording", t("group.recording")]];
  group = choice(t("group"), groups, "", (value) => ask({ ...state.question, group: value }));
  diverse = checkbox(false, (value) => ask({ ...state.question, diverse: value }));
  const filter = makeFilter({ change: (where) => (closeFilter(), ask({ ...state.question, where })) });
  panel = el("aside.inspector", { "aria-label": t("inspector"), tabindex: -1 }, el("p.muted.hint", t("inspector.empty")));
  on("selected", inspector);
  const list = hits.makeHits({ open: async () => (await inspector()).openInspector(), refine, more, cancel, whyNone });
  const openExport = async () => (await import("./export.js")).openExport();
  command("export", openExport);
  const options = el("div.row.options", count, measure, el("label", { title: t("diverse.tip") }, diverse, " ", t("diverse")), group,
    button(t("export"), openExport, "small"));
  const screen = el("div.find",
    el("div.side", makeQuery(callbacks), filter),
    el("div.answer", options, list),
    panel);
  on("offline", () => !state.offline && isCut && answer(state.question));
  command("undo", async () => (await steps()).undo());
  command("redo", async () => (await steps()).redo());
  command("copy", async () => (await inspector()).copy(location.href));
  return screen;
}

async function inspector() {
  if (!inspectorPart) {
    inspectorPart = import("./inspector.js");
    (await inspectorPart).bindInspector(panel, { ask: askRow, show: showRow });
  }
  return inspectorPart;
}

function steps() {
  stepsPart ??= import("./undo.js").then((part) => {
    part.stepKind("refine", (step) => (ask(step.before), say(t("refined.undone"))), (step) => ask(step.after));
    return part;
  });
  return stepsPart;
}

function askStep(before, after) {
  steps().then(({ remember }) => remember({ kind: "refine", before, after }));
  ask(after);
}

const askRow = (row) => ask(withBase(state.question, { id: row.id }), { focus: true });

function refine(hit, list) {
  const before = state.question;
  if (list === "unlike" && !isAsked(before)) return void say(t("less.needs"));
  const other = list === "like" ? "unlike" : "like";
  const isThere = before[list].includes(hit.id);
  const after = {
    ...(before.text ? withBase(before, {}) : before),
    [list]: isThere ? before[list] : [...before[list], hit.id],
    [other]: before[other].filter((id) => id !== hit.id),
  };
  say(t(`refined.${list}`, { name: hit.path }));
  askStep(before, after);
}

function without(row, list) {
  const before = state.question;
  const after = list === "id" ? { ...before, id: null } : { ...before, [list]: before[list].filter((one) => one !== row) };
  askStep(before, after);
}

export async function answer(question, { row = null, focus = false } = {}) {
  request?.abort();
  const mine = (request = new AbortController());
  const keep = state.hits.length > 0;
  page = 0;
  isCut = false;
  showProblem("");
  group.value = question.group;
  diverse.checked = question.diverse;
  diverse.disabled = question.group !== "";
  showFilter(question.where);
  showQuestion(question, (id) => (typeof id === "string" ? t("query.sound") : state.hits.find((hit) => hit.id === id)?.path ?? t("row", { id })));
  hits.showLoading({ keep });
  isAsking = true;
  try {
    const found = await search(question, PAGES[0], mine.signal);
    show(found, focus);
    await showSelected(row);
  } catch (error) {
    if (error.name !== "AbortError") fail(error, question);
  } finally {
    if (request === mine) isAsking = false;
    inspector();
  }
}

const countOf = ({ kind, hits: { length: n }, took_ms }) => t(`count.${kind}`, { n, ms: Math.round(took_ms) });

function show(found, focus) {
  isMore = found.more;
  set({ hits: found.hits });
  hits.showHits(found.hits, { focus });
  document.querySelector(".find").classList.toggle("first", found.kind === "random");
  count.textContent = countOf(found);
  say(count.textContent);
  measure.textContent = found.kind === "hits" ? t("measure") : "";
}

/** Select the row of the address, also if it is not among the hits. */
async function showSelected(id) {
  if (id === null) return set({ selected: state.selected ?? null });
  if (!state.hits.some((hit) => hit.id === id)) return showRow(id);
  set({ selected: state.hits.find((hit) => hit.id === id) });
}

async function showRow(id) {
  const known = state.hits.find((hit) => hit.id === id);
  if (known && hits.chooseRow(id)) return;
  try {
    set({ selected: await rowOf(id) });
  } catch (error) {
    say(messageOf(error));
  }
}

function fail(error, question) {
  isCut = error.status === 0;
  if (error.code === "no_text") set({ model: { ...state.model, text: false } });
  if (error.code === "bad_filter") return void (showFilterProblem(error, question.where), hits.showError(error));
  hits.showError(error, () => answer(question));
}

function cancel() {
  request?.abort();
  hits.showHits(state.hits);
}

/** Get more hits while scrolling: a longer list of the same question, of which the new ones are added. */
async function more() {
  if (!isMore || isAsking || page + 1 >= PAGES.length) return;
  isAsking = true;
  const { question } = state, mine = request;
  try {
    const found = await search(question, PAGES[++page], mine.signal);
    if (question !== state.question) return;
    isMore = found.more && page + 1 < PAGES.length;
    set({ hits: found.hits });
    hits.appendHits(found.hits);
    count.textContent = countOf(found);
  } catch (error) {
    if (error.name !== "AbortError") hits.showError(error, more);
  } finally {
    if (request === mine) isAsking = false;
  }
}

/** Say why nothing was found: the conditions, each with the rows that would be left without it. */
function whyNone() {
  const { where } = state.question;
  if (!state.collection?.rows) return el("p", t("empty"));
  if (!where) return el("p", t("none.found"));
  const list = el("ul.why");
  import("./none.js").then(({ explainConditions }) => explainConditions(list, where, ask));
  return el("div", el("p", t("none.filter")), list);
}

/** Close the inspector where it is a sheet; return whether it was open. */
export function closeSheet() {
  const isOpen = panel?.classList.contains("open") ?? false;
  panel?.classList.remove("open");
  return isOpen;
}
