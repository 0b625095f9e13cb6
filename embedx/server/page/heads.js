/* Heads: train one again, show what has changed. */

import { doneJob, path, post } from "./api.js";
import { button, el, muted, nameOf } from "./dom.js";
import { number, score, t } from "./words.js";

const MAX_SHOWN = 50;

export async function train(column, name) {
	const { job } = await post(path("/heads"), { label: column, name, wait: false });
	return doneJob(job);
}

const signed = (value) => (value < 0 ? `−${score(-value)}` : `+${score(value)}`);

export function sentenceOf({ balanced_accuracy: figure, before = null, difference, flipped_rows: n }) {
	if (!figure) return t("trained.none");
	const [low, value, high] = figure.map(score), figures = before === null ? [t("trained.first", { value, low, high })]
		: [t("trained.again", { before: score(before), value, low: signed(difference[0]), high: signed(difference[2]) }), t("trained.interval", { low, high })];
	return [...figures, t("trained.flipped", { n })].join(", ");
}

export function resultOf({ notes, confusion, labels, flipped, flipped_rows, ...job }, open) {
	return el("details.trained",
		el("summary", sentenceOf({ ...job, flipped_rows })),
		...notes.map((note) => muted(note)),
		confusion && matrix(confusion, labels),
		flipped.length > 0 && el("h3", t("flipped")),
		flipped.length > 0 && el("ul.flipped", flipped.slice(0, MAX_SHOWN).map(({ id, from, to }) => el("li",
			button([t("row", { id: String(id) }), ": ", nameOf(from, 24), " → ", nameOf(to, 24)], () => open(id), "plain small")))),
		flipped_rows > MAX_SHOWN && muted(t("flipped.more", { n: flipped_rows - MAX_SHOWN })));
}

export function matrix(counts, classes) {
	const line = (row, i) => {
		const all = Math.max(1, row.reduce((sum, n) => sum + n, 0));
		return el("tr", el("th", { scope: "row" }, nameOf(classes[i], 20)), row.map((n, j) =>
			el(i === j ? "td.right" : "td", { style: { "--share": `${Math.round((100 * n) / all)}%` } }, n ? number(n, 0) : "")));
	};
	return el("div.scroll", { tabindex: 0, role: "group", "aria-label": t("confusion") }, el("table.matrix",
		el("thead", el("tr", el("th", { scope: "col" }, t("confusion.true")), classes.map((one) => el("th", { scope: "col" }, nameOf(one, 14))))),
		el("tbody", counts.map(line))));
}
