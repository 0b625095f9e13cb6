/* The screen About: the collection, what failed, its heads, what runs now. */

import { go } from "./address.js";
import { doneJob, getJson, latest, path, post, withFields } from "./api.js";
import { button, debounce, el, errorBox, fill, iconButton, muted, mutedWord, nameOf, say, visible, worded } from "./dom.js";
import { quotedValue } from "./filter.js";
import { matrix } from "./heads.js";
import { noQuestion, on, state } from "./state.js";
import { messageOf, number, score, size, t } from "./words.js";

const PARTS = ["running", "overview", "labels", "flags", "failures", "duplicates", "heads", "recipe", "versions"];
const MAX_LABELS = 100;
const MAX_FAILURES = 200;
const REST_MS = 300; // of the changes, before all is asked again
const RUN_MS = 5000; // until a running extraction is asked for, should its end not be told

let root, parts, mine = "", timer = 0;
const nextFacts = latest();

export function make() {
	parts = Object.fromEntries(PARTS.map((name) => [name, el(`section.${name}`)]));
	parts.running.hidden = true;
	const { running, overview, ...others } = parts;
	root = el("div.about", running, overview, el("div.columns", ...Object.values(others)));
	const again = debounce(() => isShown() && open(), REST_MS);
	on("told", () => {
		const { name, facts } = state.told;
		if (name === "extract" && isShown()) showRunning(facts.done === null ? null : facts);
		if (name === "rows" || name === "labels") again();
	});
	return root;
}

const isShown = () => root.isConnected && state.screen === "about";

export async function open() {
	const signal = nextFacts(), { name } = state.collection, isNew = mine !== name;
	const get = (rest, fields = {}) => getJson(withFields(path(rest, name), fields), { signal });
	if (isNew) for (const part of Object.values(parts)) fill(part);
	try {
		const [facts, about, labels] = await Promise.all([get(""), get("/about"), get("/values", { column: "label", limit: MAX_LABELS })]);
		mine = name;
		showRunning(about.extract);
		showFacts(facts, about);
		showLabels(labels, facts);
		showFlags(about);
		if (isNew) showDuplicates();
		showFailures(about.failures, (await get("/failures", { limit: MAX_FAILURES })).failures);
		fillPart("heads", about.heads.length ? about.heads.map(showHead) : muted(t("about.heads.none")));
		showRecipe(about);
	} catch (error) {
		if (signal.aborted) return;
		fill(parts.overview, errorBox(messageOf(error)), button(t("again"), open));
	}
}

function rowsButton(rows, where, name) {
	const find = () => go({ screen: "find", question: { ...noQuestion(), where } });
	return button(number(rows, 0), find, { class: "small plain count", title: t("about.open", { what: visible(name) }), "aria-label": `${visible(name)}: ${t("rows", { n: rows })}` });
}

function fillPart(name, ...children) {
	fill(parts[name], el("h2", t(`about.${name}`)), ...children);
}

function showRunning(run) {
	const wasShown = !parts.running.hidden;
	clearTimeout(timer);
	if (run) timer = setTimeout(() => isShown() && open(), RUN_MS);
	parts.running.hidden = !run;
	if (!run) return void (wasShown && say(t("about.run.done")));
	const { done, planned, failed, speed } = run, words = t("about.run.of", { done, planned });
	fill(parts.running, el("h2", t("about.run")), el("progress", { max: Math.max(1, planned), value: done, "aria-label": words }),
		el("p", `${words}, ${t("about.run.failed", { n: failed })}, ${t("about.run.speed", { x: number(speed, speed < 10 ? 1 : 0) })}`));
}

function showFacts({ rows, hours, recordings, generation, views }, { bytes }) {
	const shown = {
		rows: number(rows, 0), hours: number(hours, hours < 10 ? 2 : 0), recordings: number(recordings, 0), size: size(bytes),
		views: views.map(({ name, dim }) => `${name} (${dim})`).join(", "), generation: number(generation, 0),
	};
	fill(parts.overview, el("h2", nameOf(mine, 80)), el("dl.figures", Object.entries(shown).map(([name, value]) =>
		el("div", el("dt", t(`about.${name}`)), el("dd", value)))));
}

function showLabels({ values, empty, more }, { rows }) {
	const most = Math.max(1, empty, ...values.map((one) => one.rows));
	const bar = (kind, name, count, where) =>
		el(kind, nameOf(name, 40), el("div.bar", { style: { width: `${(100 * count) / most}%` } }), rowsButton(count, where, name));
	fill(parts.labels, el("h2", t("labels")),
		muted(t("about.labelled", { n: rows - empty, all: number(rows, 0) })),
		el("ul.bars", values.map((one) => bar("li", String(one.value), one.rows, `label = ${quotedValue(one.value)}`)),
			empty > 0 && bar("li.muted", t("about.nolabel"), empty, "label IS NULL")),
		more && muted(t("about.more")));
}

function showFlags({ flags, recording_flags: others }) {
	const line = (flag, count) => el("li", el("span", worded("flag", flag)), count);
	const lines = Object.entries({ ...others, ...flags }).map(([flag, n]) =>
		line(flag, flag in flags ? rowsButton(n, `flags LIKE ${quotedValue(`%${flag}%`)}`, flag) : mutedWord(t("about.files", { n }))));
	fillPart("flags", lines.length ? el("ul.lines", lines) : muted(t("about.flags.none")));
}

function showFailures(reasons, failures) {
	const open = new Set([...parts.failures.querySelectorAll("details[open]")].map((one) => one.dataset.reason));
	const lines = Object.entries(reasons).map(([reason, n]) => {
		const names = failures.filter((one) => one.reason === reason);
		return el("details", { "data-reason": reason, open: open.has(reason) },
			el("summary", worded("reason", reason), " ", mutedWord(t("about.files", { n }))),
			el("ul.lines", names.map(({ path: name, detail }) => el("li", nameOf(name, 300), detail && el("small", visible(detail))))),
			names.length < n && muted(t("about.failures.more")));
	});
	fillPart("failures", lines.length ? lines : muted(t("about.failures.none")));
}

/** Offer to look for duplicates: it compares all rows, so it is not done unasked. */
function showDuplicates() {
	const result = el("div", { "aria-live": "polite" });
	const start = button(t("about.duplicates.find"), async () => {
		start.disabled = true;
		fill(result, el("progress", { "aria-label": t("about.duplicates.wait") }), muted(t("about.duplicates.wait")));
		try {
			const { job } = await post(path("/duplicates", mine), {}), { groups, total, rows } = await doneJob(job);
			fill(result, el("p", total ? t("about.duplicates.found", { n: total, rows }) : t("about.duplicates.none")),
				el("ul.lines", groups.map(({ why, ids, rows: n }) => el("li", el("span", worded("why", why)), rowsButton(n, `id IN (${ids.join(", ")})`, why)))));
		} catch (error) {
			fill(result, errorBox(messageOf(error)));
		}
		start.disabled = false;
	});
	fillPart("duplicates", start, result);
}

function showHead({ name, value, figure, confusion, classes, notes, trained_rows: n, label, views, split, chance }) {
	const range = (value?.low ?? null) === null ? "" : ` (${score(value.low)} – ${score(value.high)})`;
	const trained = [t("about.trained", { n, label: [label ?? "label"].flat().join(", "), view: views.join(", ") }), split && visible(split), Number.isFinite(chance) && t("about.chance", { x: score(chance) })];
	return el("article.head",
		el("h3", nameOf(name, 60)),
		el("p", value ? `${t(`figure.${figure}`)} ${score(value.value)}${range}` : t("about.unscored")),
		muted(trained.filter(Boolean).join(", ")),
		...(notes ?? []).map((note) => muted(visible(note))),
		confusion && el("details", el("summary", t("confusion")), matrix(confusion, classes)));
}

function showRecipe({ recipe, fingerprint, versions: { service, ...run } }) {
	const text = JSON.stringify(recipe, null, 1), copy = iconButton("copy", t("about.copy"), async () => (await import("./inspector.js")).copy(text));
	fill(parts.recipe, el("h2", t("about.recipe"), " ", copy), muted(t("about.recipe.tip", { fingerprint })),
		el("pre", { tabindex: 0, "aria-label": t("about.recipe") }, text));
	fillPart("versions", el("dl", Object.entries({ [t("about.service")]: `embedx ${service}`, ...run }).flatMap(([name, value]) => [el("dt", name), el("dd", visible(value))])));
}
