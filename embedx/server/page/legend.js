/* The legend of the map: a list that hides, isolates and selects values. */

import { button, el, fill, mutedWord, nameOf, say } from "./dom.js";
import { packed, paletteOf, rgbOf } from "./picture.js";
import { extremesOf } from "./points.js";
import { number, plain, t } from "./words.js";

const LIGHT = ["#303CD8", "#B49000", "#900000", "#247848", "#C018B4", "#6090FC", "#3C306C", "#540018", "#57606A", "#B0B7BE"];
const DARK = ["#00A8FC", "#FC300C", "#B4FCA8", "#FCB4F0", "#F0FC00", "#6C60FC", "#B448B4", "#D86054", "#C9D1D9", "#4A525B"];
const STEPS = 8; // commonest values, and steps of a number
const OTHER = STEPS, NONE = STEPS + 1;

/** Group rows by a column of the server: {groups: names, codes, isNumber}. */
export function grouped(column, values) {
	if (values.length || column instanceof Int16Array) {
		const codes = Uint8Array.from(column, (value) => (value < 0 ? NONE : Math.min(OTHER, value)));
		return { codes, isNumber: false, groups: values.slice(0, STEPS).map(String) };
	}
	const [low, high] = extremesOf(column);
	const step = (high - low) / STEPS || 1, digits = step < 0.1 ? 3 : step < 1 ? 2 : step < 10 ? 1 : 0;
	const codes = Uint8Array.from(column, (value) => (value >= low ? Math.min(STEPS - 1, Math.floor((value - low) / step)) : NONE));
	const name = (_, k) => `${plain(low + k * step, digits)} – ${plain(low + (k + 1) * step, digits)}`;
	return { codes, isNumber: true, groups: Array.from({ length: low > high ? 0 : high > low ? STEPS : 1 }, name) };
}

const channels = (colour) => [0, 8, 16].map((bits) => (colour >> bits) & 255);

export class Legend {
	/** @param {object} actions changed: after hiding; select: with the code of a group */
	constructor(node, actions) {
		Object.assign(this, { node, actions, hidden: new Set(), groups: [], all: [] });
	}

	/** Show groups with the number of their points in view; `other` and `none` only if there are any. */
	show({ groups, isNumber }, counts, isDark) {
		if (groups !== this.groups) this.hidden.clear();
		const ramp = paletteOf("night"), theme = (isDark ? DARK : LIGHT).map((hex) => packed(rgbOf(hex)));
		const step = (k) => ramp[Math.round((isDark ? 70 : 25) + (k * 165) / Math.max(1, groups.length - 1))];
		this.groups = groups;
		this.all = groups.map((name, code) => ({ code, name, colour: isNumber ? step(code) : theme[code] }));
		this.all.push({ code: OTHER, name: t("map.other"), colour: theme[OTHER] }, { code: NONE, name: t("none"), colour: theme[NONE] });
		const focused = this.node.contains(document.activeElement) && document.activeElement.dataset.code;
		fill(this.node, this.all.filter(({ code }) => code < STEPS || counts.all[code]).map((one) => this.line(one, counts.view[one.code])));
		if (focused) this.node.querySelector(`[data-code="${focused}"]`)?.focus();
	}

	line({ code, name, colour }, count) {
		const swatch = el("span.swatch", { style: { "background-color": `rgb(${channels(colour)})` } });
		const toggle = button([swatch, nameOf(name, 24), mutedWord(number(count, 0))], (event) => event.detail < 2 && this.toggle(code, name),
			{ class: "plain", "aria-pressed": String(!this.hidden.has(code)), title: t("map.legend.tip"), "data-code": code, dblclick: () => this.isolate(code) });
		return el("li", toggle, button(t("map.select"), () => this.actions.select(code), { class: "small plain", "aria-label": `${t("map.select")}: ${name}` }));
	}

	toggle(code, name) {
		const isShown = this.hidden.delete(code) || !this.hidden.add(code);
		say(t(isShown ? "map.shown" : "map.hidden", { name }));
		this.actions.changed();
	}

	isolate(code) {
		const others = new Set(this.all.map((one) => one.code).filter((one) => one !== code));
		this.hidden = others.isSubsetOf(this.hidden) ? new Set() : others;
		this.actions.changed();
	}

	/** Return the colours of all shades: of the groups, then of points that a selection leaves out. 0 hides. */
	colours(ground) {
		const colours = new Uint32Array(32), below = channels(ground);
		for (const { code, colour } of this.all.filter((one) => !this.hidden.has(one.code))) {
			colours[code] = colour;
			colours[code + 16] = packed(channels(colour).map((value, i) => value * 0.25 + below[i] * 0.75));
		}
		return colours;
	}
}
