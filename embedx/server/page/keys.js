/* Keys: a table of commands, one listener, and nothing that acts while somebody types. */

import { go } from "./address.js";
import { state } from "./state.js";

const WITH_ROWS = "find map label", EVERYWHERE = "find map label about";

/** command: [keys, screens]. Digits are the labels', letters the commands', so the two can never collide. */
export const KEYS = {
	next: [["ArrowRight", "ArrowDown"], "find"],
	play: [[" "], "find label"],
	open: [["Enter", "o"], "find"],
	more: [["m"], "find"],
	less: [["n"], "find"],
	loop: [["l"], WITH_ROWS],
	wider: [["w"], WITH_ROWS],
	band: [["b"], WITH_ROWS],
	slower: [["j"], WITH_ROWS],
	faster: [["k"], WITH_ROWS],
	brighter: [["+"], WITH_ROWS],
	darker: [["-"], WITH_ROWS],
	chain: [["p"], "find label"],
	label: [["1–9"], WITH_ROWS],
	unsure: [["0"], WITH_ROWS],
	unlabel: [["Backspace"], WITH_ROWS],
	undo: [["u"], WITH_ROWS],
	redo: [["U"], WITH_ROWS],
	skip: [["s"], "label"],
	retrain: [["r"], "label"],
	ask: [["q"], "find"],
	filter: [["f"], "find"],
	copy: [["c"], "find"],
	export: [["e"], "find"],
	screen: [["g"], EVERYWHERE],
	help: [["h", "?"], EVERYWHERE],
	stop: [["Escape"], EVERYWHERE],
};
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
	return own === undefined ? KEYS[name][0] : own ? [own] : [];
}

/** Return the digit of a key by its place, as AZERTY gives digits with Shift only; null if it is none. */
export const digitOf = ({ shiftKey, code }) => (shiftKey ? null : /^(?:Digit|Numpad)(\d)$/.exec(code)?.[1] ?? null);

/** Return the name of the command of a key press in this screen, undefined if there is none. */
function commandOf(event) {
	const digit = digitOf(event), wanted = (name) => KEYS[name][1].split(" ").includes(state.screen);
	if (digit) return ["label", "unsure"].find((name) => (name === "unsure") === (digit === "0") && wanted(name));
	return Object.keys(KEYS).find((name) => name !== "next" && name !== "label" && wanted(name) && keysOf(name).includes(event.key));
}

/** Tell whether a key press belongs to a control of the browser: a text field, a list, a slider, an open dialog. */
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
		if (event.timeStamp - screenKey < SCREEN_WAIT && SCREEN_KEYS[letter]) {
			screenKey = -Infinity;
			event.preventDefault();
			return void go({ screen: SCREEN_KEYS[letter] });
		}
		const name = commandOf(event);
		screenKey = name === "screen" ? event.timeStamp : -Infinity;
		if (!name || !actionOf(name)) return;
		if (run(name, Number(digitOf(event))) !== false) event.preventDefault();
	});
}
