/* Keys: a table of commands, and one listener. */

import { go } from "./address.js";
import { state } from "./state.js";

/** The keys of commands, by the screens where they act. Digits are the labels', letters the commands': they never collide. */
const GROUPS = {
	find: { next: ["ArrowRight", "ArrowDown"], open: ["Enter", "o"], more: ["m"], less: ["n"], ask: ["q"], filter: ["f"], copy: ["c"], export: ["e"] },
	"find label": { play: [" "], chain: ["p"] },
	"find map label": {
		loop: ["l"], wider: ["w"], band: ["b"], slower: ["j"], faster: ["k"], brighter: ["+"], darker: ["-"],
		label: ["1–9"], unsure: ["0"], unlabel: ["Backspace"], undo: ["u"], redo: ["U"],
	},
	label: { skip: ["s"], retrain: ["r"] },
	"find map label about": { screen: ["g"], help: ["h", "?"], stop: ["Escape"] },
};
const screensOf = {};
export const KEYS = Object.assign({}, ...Object.values(GROUPS));
for (const [screens, group] of Object.entries(GROUPS)) for (const name in group) screensOf[name] = screens.split(" ");
const SCREEN_KEYS = { f: "find", m: "map", l: "label", a: "about" };
const SCREEN_WAIT = 1500; // ms between g and the letter of the screen

const actions = new Map();
let screenKey = -Infinity; // when g was pressed

/** Set what commands do, everywhere or in a screen: functions of the event and, for labels, of the digit. */
export function commands(given, screen = "") {
	for (const [name, action] of Object.entries(given)) actions.set(name + screen, action);
}

const actionOf = (name) => actions.get(name + state.screen) ?? actions.get(name);

export const isBound = (name) => actionOf(name) || name === "next" || name === "screen";

export function keysOf(name) {
	const own = state.settings.ownKeys[name];
	return own === undefined ? KEYS[name] : own ? [own] : [];
}

/** Return the digit of a key by its place, as AZERTY gives digits with Shift only, or null. */
export const digitOf = ({ shiftKey, code }) => (shiftKey ? null : /^(?:Digit|Numpad)(\d)$/.exec(code)?.[1] ?? null);

function commandOf(event) {
	const digit = digitOf(event), wanted = (name) => screensOf[name].includes(state.screen);
	if (digit) return [digit === "0" ? "unsure" : "label"].find(wanted);
	return Object.keys(KEYS).find((name) => wanted(name) && keysOf(name).includes(event.key));
}

/** Tell whether a key press belongs to a control: a text field, a list, a slider, an open dialog. */
function isTaken(event) {
	const target = event.target instanceof Element ? event.target : document.body;
	if (target.closest("input:not([type=checkbox], [type=radio], [type=file]), select, textarea, [contenteditable], dialog[open]")) return true;
	return [" ", "Enter"].includes(event.key) && target.closest("button, a, summary, [role=slider], input, [role=option]") !== null;
}

export function listen() {
	document.addEventListener("keydown", (event) => {
		if (event.defaultPrevented || event.isComposing) return;
		const letter = event.key.toLowerCase(), run = (name, ...values) => actionOf(name)?.(event, ...values);
		if ((event.ctrlKey || event.metaKey) && letter === "z" && !isTaken(event)) {
			event.preventDefault();
			return void run(event.shiftKey ? "redo" : "undo");
		}
		if (event.key === "Escape") return void run("stop");
		if (!state.settings.keys || event.ctrlKey || event.altKey || event.metaKey || isTaken(event)) return;
		const name = commandOf(event), screen = event.timeStamp - screenKey < SCREEN_WAIT && SCREEN_KEYS[letter];
		screenKey = name === "screen" ? event.timeStamp : -Infinity;
		if (screen) go({ screen });
		if (screen || (actionOf(name) && run(name, Number(digitOf(event))) !== false)) event.preventDefault();
	});
}
