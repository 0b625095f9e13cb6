/* The address: behind # is the whole question, so that a link shows the same to somebody else. */

import { noQuestion, set, state } from "./state.js";

export const SCREENS = ["find", "map", "label", "about"];
const SCREEN_FIELDS = { map: ["method", "colour", "box"], label: ["by", "head"] };

const number = (text) => (/^\d{1,15}(\.\d{1,6})?$/.test(text) ? Number(text) : null);
const example = (text) => (/^clip:\w{1,40}$/.test(text) ? text : Number.isInteger(number(text)) ? number(text) : null);
const examples = (text) => text.split(",").map(example).filter((one) => one !== null);
const text = (value) => (value.length <= 10_000 ? value : null);

/** How each field of a question is read; null is what is not known. */
const FIELDS = {
	clip: text, id: number, start_s: number, end_s: number, text, like: examples, unlike: examples, where: text, view: text,
	group: (value) => (value === "recording" ? value : null), diverse: (value) => value === "1" || null,
};

export function parseAddress(hash) {
	const [path, ...query] = hash.replace(/^#/, "").split("?"), [name, wanted] = path.split("/").map(decode);
	const isKnown = SCREENS.includes(wanted), screen = isKnown ? wanted : "find";
	const found = { name, screen, question: noQuestion(), row: null, extra: {}, unknown: wanted && !isKnown ? [wanted] : [] };
	for (const [key, given] of new URLSearchParams(query.join("?"))) {
		const [target, value] = Object.hasOwn(FIELDS, key) ? [found.question, FIELDS[key](given)]
			: key === "row" ? [found, number(given)]
			: [found.extra, SCREEN_FIELDS[screen]?.includes(key) ? given : null];
		if (value === null) found.unknown.push(key);
		else target[key] = value;
	}
	return found;
}

function decode(text) {
	try {
		return decodeURIComponent(text);
	} catch {
		return text;
	}
}

/** Only what differs from an empty question is in the address. */
export function formatAddress({ name, screen, question, row = null, extra = {} }) {
	const asked = Object.keys(FIELDS).map((key) => [key, question[key]]).filter(([, value]) => ![null, "", false].includes(value) && value.length !== 0);
	const fields = [...asked, ...Object.entries(extra).filter(([, value]) => value), ...(row === null ? [] : [["row", row]])];
	const query = fields.map(([key, value]) => `${key}=${encodeURIComponent(value === true ? "1" : value).replace(/%2C/g, ",")}`).join("&");
	return `#${encodeURIComponent(name)}/${screen}${query ? `?${query}` : ""}`;
}

/** Change the question in some of its fields. */
export const ask = (fields, options) => go({ question: { ...state.question, ...fields }, ...options });

/** Go somewhere: the address changes, and the page follows to `state.wanted`. */
export function go({ name = state.shown.name, screen = "find", question = state.question, row = null, extra = {}, replace = false, focus = false }) {
	const address = formatAddress({ name, screen, question, row, extra });
	if (address === location.hash) return;
	if (name !== state.shown.name) return void (location.hash = address);
	history[replace ? "replaceState" : "pushState"](null, "", address);
	set({ wanted: { name, screen, question, row, extra, focus } });
}
