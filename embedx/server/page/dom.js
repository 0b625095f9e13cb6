/* Elements. Foreign text reaches the page as a text node or as one of these attributes only. */

import { clamp } from "./scale.js";
import { t } from "./words.js";

const ATTRIBUTES = new Set([
	"accept", "autocomplete", "class", "download", "enterkeyhint", "for", "height", "href", "id", "list", "max", "maxlength",
	"min", "name", "placeholder", "role", "rows", "scope", "spellcheck", "step", "tabindex", "title", "type", "width",
]);
const PROPERTIES = new Set(["checked", "disabled", "hidden", "open", "required", "selected", "value"]);
const NAME_LENGTH = 44; // characters that 320 px hold at 12 px

/** Return an element: el("p.note", {hidden: true, click: f}, child, ...). Attributes may be left out; empty children are. */
export function el(kind, ...children) {
	const [name, ...classes] = kind.split("."), node = document.createElement(name);
	const attributes = children[0]?.constructor === Object ? children.shift() : {};
	if (classes.length) node.className = classes.join(" ");
	for (const [key, value] of Object.entries(attributes)) setAttribute(node, key, value);
	return fill(node, ...children);
}

function setAttribute(node, key, value) {
	if (typeof value === "function") {
		node.addEventListener(key, value);
	} else if (key === "style") {
		for (const [name, text] of Object.entries(value)) node.style.setProperty(name, text);
	} else if (PROPERTIES.has(key)) {
		node[key] = value;
	} else if (ATTRIBUTES.has(key) || key.startsWith("aria-") || key.startsWith("data-")) {
		if (key === "href" && !/^(#|blob:|(?![a-z][\w+.-]*:)\.?\/?[\w-])/i.test(value)) throw new Error(`href ${value}`);
		if (!isLeftOut(value)) node.setAttribute(key, value);
	} else {
		throw new Error(`The attribute ${key} is not on the list.`);
	}
}

const isLeftOut = (value) => (value ?? false) === false;

/** Replace the children of an element; one that stays keeps the focus. */
export function fill(node, ...children) {
	const focused = document.activeElement;
	node.replaceChildren(...children.flat().filter((child) => !isLeftOut(child)));
	if (focused?.isConnected) focused.focus({ preventScroll: true });
	return node;
}

export function icon(name) {
	const picture = document.getElementById("icon").content.firstChild.cloneNode(true);
	picture.firstChild.setAttribute("href", `#${name}`);
	return picture;
}

/** In the place of attributes classes may stand. */
export function button(words, click, attributes = {}) {
	const given = typeof attributes === "string" ? { class: attributes } : attributes;
	return el("button", { type: "button", ...given, click }, words);
}

export function iconButton(name, words, click, extra = "", attributes = {}) {
	return button(icon(name), click, { class: `round ${extra}`, "aria-label": words, title: words, ...attributes });
}

/** Options are pairs [value, words]; `change` gets the value. */
export function choice(words, options, chosen, change, attributes = {}) {
	const list = el("select", { "aria-label": words, ...attributes, change: () => change(list.value) });
	return fillChoice(list, options, chosen);
}

export function fillChoice(list, options, chosen) {
	return fill(list, options.map(([value, words]) => el("option", { value, selected: value === chosen }, words)));
}

export const checkbox = (checked, change) => el("input", { type: "checkbox", checked, change: (event) => change(event.target.checked) });

export const canvas = (attributes = {}) => el("canvas", { "aria-hidden": "true", width: 1, height: 1, ...attributes });

export const muted = (...children) => el("p.muted", ...children);
export const mutedWord = (...children) => el("span.muted", ...children);

/** Show a text and say it as an error; an empty text hides its element. */
export function showText(node, text) {
	if (text) warn(text);
	return Object.assign(node, { textContent: text, hidden: !text });
}

/** Return a place for an error; one that is there already is said. */
export const errorBox = (text = "") => showText(el("p.error"), text);

/** Show a node at a share of its parent's width; null hides it. */
export function showAt(node, share) {
	node.hidden = share === null;
	node.style.left = `${100 * share}%`;
}

export function showPlays(node, isPlaying, words = t("play")) {
	fill(node, icon(isPlaying ? "stop" : "play"));
	node.ariaLabel = isPlaying ? t("stop") : words;
}

export function shareAt(node, { clientX }) {
	const { left, width } = node.getBoundingClientRect();
	return clamp((clientX - left) / width);
}

const DIRECTIONS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };

/** Return a slider: arrows go step(event) on from place(), Home and End to its ends; `press` is for Enter and space. */
export function slider(kind, words, { low = 0, high, place, step, move, press, ...attributes }, ...children) {
	const keydown = (event) => {
		const direction = DIRECTIONS[event.key], ends = { Home: low, End: Number(node.ariaValueMax) };
		const to = direction ? place() + direction * step(event) : ends[event.key];
		if (to !== undefined) move(clamp(to, low, ends.End));
		else if (press && [" ", "Enter"].includes(event.key)) press();
		else return;
		consume(event);
	};
	const node = el(kind, { role: "slider", tabindex: 0, "aria-label": words, "aria-valuemin": low, "aria-valuemax": high, "aria-valuenow": low, keydown, ...attributes }, ...children);
	return node;
}

export const showValue = (node, value, words) => Object.assign(node, { ariaValueNow: value, ariaValueText: words });

/** Keep an event from the browser and the rest of the page. */
export function consume(event) {
	event.preventDefault();
	event.stopPropagation();
}

export function followPointer(node, event, moved, released = () => null) {
	if (event.button !== 0) return;
	node.setPointerCapture(event.pointerId);
	node.addEventListener("pointermove", moved);
	const end = () => node.removeEventListener("pointermove", moved);
	node.addEventListener("pointercancel", end, { once: true });
	node.addEventListener("pointerup", (last) => (end(), released(last)), { once: true });
}

/** Make control and direction characters visible, as U+202E. */
export function visible(text) {
	return String(text).replace(
		/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/gu,
		(sign) => `U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`,
	);
}

/** Return a word of the server in the language of the page. */
export function worded(kind, word) {
	const key = `${kind}.${word.replace(/[ -]/g, ".")}`;
	return t.has(key) ? t(key) : visible(word);
}

/** Return a name with its own direction; a long one is shortened in the middle, and whole in its tip. */
export function nameOf(text, length = NAME_LENGTH) {
	const whole = visible(text), signs = Array.from(whole), head = Math.ceil((length - 1) / 2);
	if (signs.length <= length) return el("bdi", whole);
	return el("bdi", { title: whole }, `${signs.slice(0, head).join("")}…${signs.slice(head + 1 - length).join("")}`);
}

export const fileOf = ({ path }, length) => nameOf(path.split("/").at(-1), length);

export function addStyles(name) {
	return new Promise((resolve, reject) => {
		const link = el("link", { href: `page/${name}.css`, load: resolve, error: () => (link.remove(), reject(new TypeError(`${name}.css`))) });
		link.rel = "stylesheet";
		document.head.append(link);
	});
}

/** Return a function that opens a dialog of settings.js with some values. */
export const dialog = (name, ...values) => async () => (await import("./settings.js"))[name](...values);

/** Say something to those who do not see the page, never once per frame. */
export const say = (text) => speak("status", text);
export const warn = (text) => speak("alert", text);

function speak(id, text) {
	const region = document.getElementById(id);
	region.textContent = "";
	requestAnimationFrame(() => (region.textContent = text));
}

/** Return a function that runs another once, after `wait` ms without a further call: by default 30, for settings. */
export function debounce(action, wait = 30) {
	let timer = 0;
	return (...values) => {
		clearTimeout(timer);
		timer = setTimeout(action, wait, ...values);
	};
}

/** Focus an element that may have no tab stop. */
export function focusOn(node) {
	if (!node) return;
	if (!node.matches("a, button, input, select, textarea, [tabindex]")) node.tabIndex = -1;
	node.focus();
}
