/* Words: a table of texts in both languages; numbers, times and plurals. */

import { WORDS } from "./words.find.js";

const LANGUAGES = ["en", "de"]; // in the order of the texts

const table = {}; // key: texts
let language = "en", plurals = new Intl.PluralRules("en");

function addLines(lines) {
	for (const line of lines.trim().split("\n")) {
		const [key, ...texts] = line.split(" | ");
		table[key] = texts;
	}
}

addLines(WORDS);

export async function addWords(part) {
	addLines((await import(`./words.${part}.js`)).WORDS);
}

export function setLanguage(name) {
	language = [name, ...navigator.languages].map((one) => one.slice(0, 2)).find((one) => LANGUAGES.includes(one)) ?? "en";
	plurals = new Intl.PluralRules(language);
	document.documentElement.lang = language;
}

/** Return a text with its values `{name}` and plurals `{n, plural: 1 hit, # hits}`. */
export function t(key, values = {}) {
	const text = table[key]?.[LANGUAGES.indexOf(language)] ?? key;
	return text.replace(/\{(\w+)(?:, plural: ([^,{}]*), ([^{}]*))?\}/g, (_, name, one, other) => {
		const value = values[name];
		if (one === undefined) return typeof value === "number" ? number(value) : String(value ?? "");
		return (plurals.select(value) === "one" ? one : other).replace("#", number(value, 0));
	});
}

t.has = (key) => key in table;

const formats = new Map();

export function number(value, digits = 2, least = 0) {
	const key = `${language} ${digits} ${least}`;
	if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(language, { minimumFractionDigits: least, maximumFractionDigits: digits }));
	return formats.get(key).format(value);
}

/** Return a number that is no quantity, such as a year: without marks between its thousands. */
export const plain = (value, digits = 4) => new Intl.NumberFormat(language, { maximumFractionDigits: digits, useGrouping: false }).format(value);

export const score = (value) => number(value, 2, 2);

export const seconds = (value) => `${number(value, value < 10 ? 1 : 0)} s`;

/** Return a moment in a recording: 0:05, 12:40, 1:02:03; with digits 0:05.25. */
export function clock(value, digits = 0) {
	const whole = Number(value.toFixed(digits)), hours = Math.floor(whole / 3600), minutes = Math.floor((whole % 3600) / 60);
	const rest = (whole % 60).toLocaleString(language, { minimumIntegerDigits: 2, minimumFractionDigits: digits, maximumFractionDigits: digits });
	return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** Return ", channel 1" where each channel has rows of its own. */
export const channelOf = ({ meta }) => (Number.isInteger(meta?.channel) ? `, ${t("channel", { n: String(meta.channel) })}` : "");

export function size(bytes) {
	const [unit, value] = bytes >= 1 << 20 ? ["MB", bytes / (1 << 20)] : ["kB", bytes / 1024];
	return `${number(value, value < 10 ? 1 : 0)} ${unit}`;
}

const CODES = {
	bad_audio: "err.format", audio_too_large: "err.long", model_unavailable: "err.nomodel", no_text: "text.none", locked: "err.locked",
	collection_unavailable: "err.unavailable", no_row: "err.norow", offline: "err.offline.short", no_sound: "err.nosound", no_audio: "err.gone", audio_gone: "err.gone",
	labels_not_allowed: "err.readonly", internal: "err.internal", bad_origin: "err.origin", no_token: "token.title",
};
const STATUSES = { 410: "err.gone", 413: "err.long", 429: "err.busy", 503: "err.busy" };

/** Return what an error means and the next step; "" for what was given up on purpose. */
export function messageOf(error, name = "") {
	if (error.name === "AbortError") return "";
	const key = CODES[error.code] ?? STATUSES[error.status];
	if (key) return t(key, { name: name || t("this.file"), s: error.wait_s || 1 });
	return error.message + (error.hint ? ` ${error.hint}` : "");
}
