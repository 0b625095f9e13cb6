/* Conflicts: somebody else has set a value meanwhile. Each stays, also over a reload, until it is decided. */

import { button, el, fileOf, fill, warn } from "./dom.js";
import { heldRows, state } from "./state.js";
import { t } from "./words.js";

const region = el("aside.conflicts", { "aria-label": t("conflicts") });
const told = new Set();

/** Show conflicts {collection, mine, theirs}; `settle` gets the one that is decided, and whether mine is taken. */
export function showConflicts(conflicts, settle) {
	const shown = conflicts.filter(({ collection }) => collection === state.collection?.name), keys = shown.map(({ key }) => key).join();
	if (keys === region.dataset.keys) return;
	region.dataset.keys = keys;
	document.querySelector("main").before(region);
	const choice = (one, key, isMine) => button(t(key), () => (settle(one, isMine), showConflicts(conflicts, settle)), "small");
	fill(region, shown.map((one) => {
		const words = el("span", sentenceOf(one));
		if (!told.has(one)) warn(words.textContent);
		told.add(one);
		return el("p.banner.row", words, choice(one, "conflict.keep", false), choice(one, "conflict.take", true));
	}));
	if (!shown.length) region.remove();
}

function sentenceOf({ mine, theirs }) {
	const [{ id, value, by }] = theirs, label = (one) => one ?? t("label.none");
	if (theirs.length > 1) return t("label.conflict", { n: theirs.length, value: label(value) });
	const row = heldRows().find((one) => one.id === id);
	return [row ? fileOf(row, 40) : t("row", { id: String(id) }), ` ${t("conflict", { by: by ?? t("somebody"), theirs: label(value), mine: label(mine[0].value) })}`];
}
