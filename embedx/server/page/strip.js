/* The strip of the queue: the rows before and after the one at hand, small, with their labels. */

import { canvas, el, fill, nameOf } from "./dom.js";
import { paint } from "./picture.js";
import { pictureOf } from "./rows.js";
import { state } from "./state.js";
import { valueOf } from "./undo.js";
import { t } from "./words.js";

const BEFORE = 2, SHOWN = 8; // rows before the one at hand, and rows in all
const SIZE = { width: 320, height: 96 }; // that of the cards

const nodes = new Map();
let list, open;

export function makeStrip(wanted) {
	open = wanted;
	list = el("ol.strip-of", { "aria-label": t("strip") });
	return list;
}

export function showStrip(queue, place, column) {
	const first = Math.max(0, Math.min(place - BEFORE, queue.length - SHOWN)), shown = queue.slice(first, first + SHOWN);
	for (const id of nodes.keys()) if (!shown.some((row) => row.id === id)) nodes.delete(id);
	const items = shown.map((row, i) => {
		if (!nodes.has(row.id)) nodes.set(row.id, makeNode(row));
		const node = nodes.get(row.id), label = valueOf(row, column) ?? (valueOf(row, "review") === null ? null : t("unsure"));
		node.place = first + i;
		node.button.ariaCurrent = node.place === place;
		node.button.ariaLabel = t("strip.row", { n: node.place + 1, label: label ?? t("label.none") });
		fill(node.label, label === null ? "" : nameOf(label, 14));
		return node.item;
	});
	if (items.length !== list.children.length || items.some((item, i) => item !== list.children[i])) fill(list, items);
}

function makeNode(row) {
	const picture = canvas(), label = el("span.chip"), button = el("button", { type: "button", click: () => open(node.place) }, picture, label);
	const node = { item: el("li", button), button, label, place: 0 };
	pictureOf(row, SIZE).then((levels) => paint(picture, levels, state.settings), () => null);
	return node;
}
