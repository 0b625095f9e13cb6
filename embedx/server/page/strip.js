/* The strip of the queue: the rows around the one at hand, small, with their labels. */

import { RowPicture } from "./card.js";
import { el, fill, nameOf } from "./dom.js";
import { clamp } from "./scale.js";
import { valueOf } from "./undo.js";
import { t } from "./words.js";

const BEFORE = 2, SHOWN = 8; // rows before the one at hand, and rows in all
const SIZE = { width: 320, height: 96 }; // that of the cards

const nodes = new Map(); // of the rows that are shown, by their ids
let list, open;

export function makeStrip(wanted) {
	open = wanted;
	list = el("ol.strip-of", { "aria-label": t("strip") });
	return list;
}

export function showStrip(queue, place, column) {
	const first = clamp(place - BEFORE, 0, Math.max(0, queue.length - SHOWN)), shown = queue.slice(first, first + SHOWN);
	for (const id of nodes.keys()) if (!shown.some((row) => row.id === id)) nodes.delete(id);
	const items = shown.map((row, i) => {
		if (!nodes.has(row.id)) nodes.set(row.id, makeNode(row));
		const node = nodes.get(row.id), label = valueOf(row, column) ?? (valueOf(row, "review") && t("unsure"));
		node.place = first + i;
		Object.assign(node.button, { ariaCurrent: node.place === place, ariaLabel: t("strip.row", { n: node.place + 1, label: label ?? t("label.none") }) });
		fill(node.label, label && nameOf(label, 14));
		return node.item;
	});
	if (items.length !== list.children.length || items.some((item, i) => item !== list.children[i])) fill(list, items);
}

function makeNode(row) {
	const picture = new RowPicture(), label = el("span.chip"), button = el("button", { type: "button", click: () => open(node.place) }, picture.node, label);
	const node = { item: el("li", button), button, label, place: 0 };
	picture.load(row, SIZE);
	return node;
}
