/* The inspector: one row, large. */

import { ask } from "./address.js";
import { path, post } from "./api.js";
import { button, debounce, el, fileOf, fill, iconButton, muted, mutedWord, nameOf, say, visible, warn } from "./dom.js";
import { showRow } from "./find.js";
import { commands } from "./keys.js";
import { bindPlayer, focusPlayer, showLarge } from "./large.js";
import { addName, digitButtons, nameField, namesOf } from "./names.js";
import { withBase } from "./rows.js";
import { on, state } from "./state.js";
import { showTimeline } from "./timeline.js";
import { giveLabel, whyReadOnly } from "./undo.js";
import { channelOf, clock, number, plain, score, t } from "./words.js";

const NEIGHBOURS = 6;
const REST_MS = 120; // of the selection, before anything large is asked for
const NAME_LENGTH = 300;

let panel, parts, row = null;

export function bindInspector(node) {
	if (panel) return;
	panel = node;
	on("selected", debounce(() => show(state.selected), REST_MS));
	on("edited", () => showEdited(state.edited));
	on("screen", showAgain);
	bindPlayer();
	commands({ label: (event, digit) => giveDigit(digit), unlabel: () => label(null), unsure: () => row && giveLabel([row], "unsure", "review") });
	show(state.selected);
}

function clear() {
	panel.classList.remove("open");
	fill(panel, el("p.muted.hint", t("inspector.empty")));
}

/** Show the row anew: the player was that of another screen. */
function showAgain() {
	const before = row;
	if (state.screen === "label" || !before) return;
	row = null;
	show(before);
}

function show(next) {
	if (next && next.id === row?.id) return;
	row = next;
	if (!row) return clear();
	parts = {
		own: nameField(t("label.other"), (name) => (label(name), (parts.own.value = ""))),
		labels: el("div.row.keys", { role: "group", "aria-label": t("labels") }),
		timeline: el("div.timeline"),
		facts: el("dl"),
		near: el("ul.near"),
	};
	fill(panel,
		el("div.top",
			el("h2", fileOf(row, NAME_LENGTH)),
			iconButton("copy", t("copy.name"), () => copy(row.path)),
			iconButton("close", t("close"), () => panel.classList.remove("open"), "sheet-only")),
		...showLarge(row),
		parts.labels, parts.timeline,
		button(t("ask.row"), () => ask(withBase({ id: row.id }), { focus: true }), "small"),
		el("h3", t("near")), parts.near,
		el("h3", t("facts")), parts.facts);
	showLabels();
	showFacts();
	showTimeline(parts.timeline, row, showRow);
	showNeighbours(row, parts.near);
}

export function openInspector() {
	if (!state.selected) return;
	show(state.selected);
	panel.classList.add("open");
	focusPlayer();
}

/** Copy a text, or show it selected where the browser gives no clipboard. */
export async function copy(text) {
	try {
		await navigator.clipboard.writeText(text);
		say(t("copied"));
	} catch {
		prompt(t("copy.here"), text);
	}
}

function showFacts() {
	const { path: file, start_s, end_s, group, split, flags = [], meta = {} } = row;
	const facts = { [t("fact.file")]: file, [t("fact.time")]: `${clock(start_s, 2)} – ${clock(end_s, 2)}`, [t("fact.row")]: String(row.id) };
	if (row.score !== undefined) facts[t("fact.score")] = number(row.score, 4);
	Object.assign(facts, { group, split, flags: flags.join(", ") }, meta);
	const given = Object.entries(facts).filter(([, value]) => value !== null && value !== undefined && value !== "");
	fill(parts.facts, given.flatMap(([name, value]) =>
		[el("dt", nameOf(name, NAME_LENGTH)), el("dd", el("bdi", visible(typeof value === "number" ? plain(value) : value)))]));
}

async function showNeighbours(mine, list) {
	try {
		const { hits } = await post(path("/search"), { id: mine.id, limit: NEIGHBOURS });
		fill(list, hits.map((hit) => el("li", button(
			[el("span.score", score(hit.score)), el("span.label", hit.label ? nameOf(hit.label, 20) : ""), mutedWord(clock(hit.start_s) + channelOf(hit)), fileOf(hit, 26)],
			() => showRow(hit.id), "plain"))));
	} catch {
		fill(list, el("li.muted", t("near.failed")));
	}
}

function showLabels(news = "") {
	const reason = whyReadOnly();
	fill(parts.labels,
		el("p.current", `${t("label.is")} `, row.label ? nameOf(row.label, 60) : mutedWord(t("label.none")), news && el("small", ` ${visible(news)}`)),
		...digitButtons(namesOf(), row.label, giveDigit, { class: "small", "aria-disabled": reason ? "true" : null }),
		reason ? muted(reason) : parts.own);
}

const giveDigit = (digit) => label(namesOf()[digit - 1]);

function label(value) {
	if (!row) return void warn(t("label.choose"));
	if (value === undefined) return false;
	if (value !== null) addName(value);
	giveLabel([row], value);
}

function showEdited(edits) {
	const edit = edits.find((one) => one.id === row?.id && one.column === "label");
	if (!edit) return;
	row.label = edit.value;
	showLabels(edit.by ? t("label.other.by", { by: edit.by, label: edit.value ?? t("label.none") }) : "");
}
