/* Dialogs: settings, keys, token, exports. */

import { path, post } from "./api.js";
import { addStyles, button, checkbox, choice, el, errorBox, fill, say, showText, warn } from "./dom.js";
import { KEYS, isBound, keysOf } from "./keys.js";
import { setSettings, state } from "./state.js";
import { addWords, messageOf, t } from "./words.js";

await Promise.all([addWords("settings"), addWords("large"), addStyles("settings")]);

const FORMATS = ["csv", "raven", "audacity", "clips"];

/** Return the first of the keys that has a text: some buttons and settings share theirs. */
const worded = (...keys) => t(keys.find(t.has));

function openDialog(title, ...children) {
	const dialog = el("dialog", { "aria-label": title, close: () => dialog.remove() }, el("h2", title), ...children);
	document.body.append(dialog);
	dialog.showModal();
	return dialog;
}

const closing = () => el("div.row.end", button(t("close"), (event) => event.target.closest("dialog").close(), "primary"));

export function openSettings() {
	const labelled = (name, control) => el("label", worded(`set.${name}`, `${name}.tip`, name), control);
	const change = (name, value) => setSettings({ [name]: value });
	const list = (name, values) => labelled(name, choice(null, values.map((value) => [value, t(`set.${name}.${value || "auto"}`)]), state.settings[name], (value) => change(name, value)));
	const range = (name, min, max, step, type = "range") => labelled(name, el("input", { type, min, max, step, value: state.settings[name], input: (event) => change(name, Number(event.target.value)) }));
	const flag = (name) => labelled(name, checkbox(state.settings[name], (value) => change(name, value)));
	const windows = [[0, t("set.window_ms.auto")], ...[6, 23, 46, 93].map((ms) => [ms, `${ms} ms`])];
	openDialog(t("settings"), el("div.form",
		el("h3", t("set.pictures")), list("colours", ["night", "paper", "ink"]), list("scale", ["mel", "linear"]),
		labelled("window_ms", choice(null, windows, state.settings.window_ms, (value) => change("window_ms", Number(value)))),
		range("fmin", 0, 100_000, 50, "number"), range("fmax", 0, 200_000, 50, "number"), range("contrast", -10, 10, 1), flag("fixed"),
		el("h3", t("set.sound")), range("volume", 0, 1, 0.05), flag("level"), flag("pitch"), flag("loop"), flag("chain"),
		el("h3", t("set.page")), list("theme", ["", "light", "dark"]),
		list("language", ["", "en", "de"]), flag("keys"),
		labelled("name", el("input", { type: "text", maxlength: 60, value: state.settings.name, change: (event) => change("name", event.target.value) }))), closing());
}

export function openHelp() {
	const body = el("tbody");
	const search = el("input", { type: "search", "aria-label": t("help.search"), placeholder: t("help.search"), input: fillRows });
	const shown = (key) => (key === " " ? t("key.space") : key.startsWith("Arrow") ? t("key.arrows") : key);
	function fillRows() {
		const names = Object.keys(KEYS).filter(isBound).map((name) => [name, worded(`key.${name}`, name)]);
		fill(body, names.filter(([, words]) => words.toLowerCase().includes(search.value.toLowerCase())).map(([name, words]) => {
			const isLetter = KEYS[name].every((key) => /^[a-z]$/.test(key));
			return el("tr", el("th", { scope: "row" }, words), el("td", isLetter ? ownKey(name, words) : [...new Set(keysOf(name).map(shown))].map((key) => el("kbd", key))));
		}));
	}
	fillRows();
	openDialog(t("help"), search, el("table.keylist", body), closing());
}

function ownKey(name, words) {
	return el("input.key", {
		type: "text", maxlength: 1, value: keysOf(name)[0] ?? "", "aria-label": t("key.of", { what: words }),
		input: (event) => setSettings({ ownKeys: { ...state.settings.ownKeys, [name]: event.target.value.toLowerCase() } }),
	});
}

export function askToken(signedIn) {
	const field = el("input", { type: "password", id: "token", autocomplete: "off", required: true }), problem = errorBox();
	const submit = async (event) => {
		event.preventDefault();
		try {
			await post("v1/session", { token: field.value });
			dialog.close();
			signedIn();
		} catch {
			showText(problem, t("token.wrong"));
		}
	};
	const dialog = openDialog(t("token.title"), el("form", { submit }, el("label", { for: "token" }, t("token.field")), field, problem,
		el("div.row.end", el("button.primary", { type: "submit" }, t("token.send")))));
}

/** Offer the rows that are shown as a file that the server makes. */
export function openExport(ids = state.hits.map((hit) => hit.id)) {
	const dialog = openDialog(t("export"), el("p", t("export.what", { n: ids.length })), el("div.row", FORMATS.map((format) => button(t(`export.${format}`), () => save(format)))), closing());
	const save = async (format) => {
		dialog.close();
		try {
			const { url } = await post(path("/exports"), { ids, format });
			el("a", { href: `v1/${url}`, download: "" }).click();
			say(t("export.done"));
		} catch (error) {
			warn(messageOf(error));
		}
	};
}
