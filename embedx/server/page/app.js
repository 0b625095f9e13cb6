/* The start: collections, screens, header. */

import { SCREENS, formatAddress, go, parseAddress } from "./address.js";
import { getJson, lookForServer, path, post, send } from "./api.js";
import { addStyles, button, choice, dialog, el, fill, focusOn, icon, iconButton, nameOf, say, visible, warn } from "./dom.js";
import * as find from "./find.js";
import { commands, listen } from "./keys.js";
import { stop } from "./sound.js";
import { noQuestion, on, set, state } from "./state.js";
import { addWords, messageOf, setLanguage, t } from "./words.js";

const PREPARE_MS = 2000;
const WAIT_MS = 300; // before the page says what it waits for
const YOUNG_MS = 5000; // a younger page is not loaded anew

const parts = new Map();
let main, header, status, band, models = [], isBroken = false;

async function start() {
	applyTheme();
	setLanguage(state.settings.language);
	frame();
	listen();
	commands({ help: dialog("openHelp"), stop: (event) => stop() || find.closeSheet() || leaveField(event) });
	on("theme", applyTheme);
	on("language", () => location.reload());
	on("wanted", () => show(state.wanted));
	on("offline waiting collection", showState);
	on("selected", keepSelected);
	on("offline", () => !state.offline && (state.collection === null ? load() : isBroken && performance.now() > YOUNG_MS && location.reload()));
	on("locked", () => state.locked && signIn());
	await tradeToken();
	addEventListener("popstate", follow); // also after a change of the part behind #
	addEventListener("unhandledrejection", (event) => noteCut(event.reason) && event.preventDefault());
	await load();
	(await import("./events.js")).followEvents();
	setTimeout(prepareMap, PREPARE_MS);
}

/** Let the server make the map ahead: it takes seconds for many rows. */
function prepareMap() {
	if (state.collection?.rows) send(path("/map?limit=1"), { headers: { Accept: "application/x-exc1" }, wait: false }).catch(() => null);
}

/** Tell whether a file of the page did not come: no browser asks for it again, so the page is loaded anew. */
function noteCut(error) {
	const isCut = error instanceof TypeError && /module|\.css/i.test(error.message); // browsers differ
	if (isCut) lookForServer();
	isBroken ||= isCut;
	return isCut;
}

const applyTheme = () => (document.documentElement.style.colorScheme = state.settings.theme); // "": as the system

const mainStop = (selector) => document.querySelector(`${selector}[tabindex='0']`) ?? main;

function frame() {
	status = el("p.state");
	band = el("p.banner", { hidden: true });
	header = el("header");
	main = el("main", { id: "main", tabindex: -1 });
	fill(document.body, document.getElementById("icons"),
		el("a.skip", { href: "#main", click: (event) => (event.preventDefault(), focusOn(mainStop("#main "))) }, t("skip")),
		header, band, main,
		el("p.unseen", { id: "status", role: "status" }), el("p.unseen", { id: "alert", role: "alert" }));
	showHeader();
}

function showHeader() {
	const names = state.collections.map((one) => one.name), { shown } = state;
	const chooser = names.length > 1
		? choice(t("collection"), names.map((name) => [name, visible(name)]), shown.name, openCollection)
		: el("strong.collection", nameOf(shown.name || "embedx", 30));
	const addressOf = (screen) => formatAddress({ name: shown.name, screen, question: state.question });
	const links = SCREENS.map((screen) => el("a", {
		href: addressOf(screen), "aria-current": shown.screen === screen && "page", click: ({ currentTarget: link }) => (link.href = addressOf(screen)),
	}, t(`screen.${screen}`)));
	fill(header, el("span.brand", icon("wave"), el("span", "embedx")), chooser,
		el("nav", { "aria-label": t("screens") }, links), status,
		iconButton("settings", t("settings"), dialog("openSettings")), iconButton("help", t("help"), dialog("openHelp")));
	showState();
}

function showState() {
	const { collection, offline, waiting } = state, isReadOnly = collection && !collection.writable, wasHidden = band.hidden;
	const words = offline ? t("state.offline") : waiting ? t("state.waiting", { n: waiting }) : isReadOnly ? t("state.readonly") : collection && t("state.saved");
	fill(status, collection && el("span.rows", t("rows", { n: collection.rows }), ", "), words);
	status.title = isReadOnly ? t("err.readonly") : "";
	band.hidden = !offline;
	band.textContent = offline ? t("err.offline", { n: waiting }) : "";
	if (wasHidden && offline) warn(band.textContent);
}

/** Trade the token of `embedx open` for a cookie, and take it out of the address. */
async function tradeToken() {
	const token = new URLSearchParams(location.hash.slice(1)).get("token");
	if (!token) return;
	history.replaceState(null, "", "#");
	await post("v1/session", { token }).catch((error) => warn(messageOf(error)));
}

async function load() {
	setTimeout(() => main.firstChild || fill(main, el("div.message", el("p", t("start.waiting")))), WAIT_MS);
	try {
		const [{ collections }, described] = await Promise.all([getJson("v1/collections"), getJson("v1/models").catch(() => ({}))]);
		models = described.data ?? [];
		set({ collections });
		await follow();
	} catch (error) {
		if (error.status !== 401) panel(t("start.failed"), messageOf(error), button(t("again"), load));
	}
}

const signIn = dialog("askToken", () => {
	set({ locked: false });
	(state.collection ? follow : load)();
});

async function follow() {
	const { unknown, ...wanted } = parseAddress(location.hash), { collections } = state;
	if (unknown.length) say(t("address.unknown", { what: unknown.map(visible).join(", ") }));
	const name = wanted.name || (collections.find((one) => one.status === "ok") ?? collections[0])?.name;
	if (!name) return panel(t("start.none"), t("start.none.help"));
	if (!collections.some((one) => one.name === name)) return panel(t("collection.unknown", { name: visible(name) }), t("collection.choose"), ...choices());
	if (state.shown.name !== name || !state.collection) await describe(name);
	if (state.collection) set({ wanted: { ...wanted, name } });
}

async function describe(name) {
	parts.get(state.shown.screen)?.leave?.();
	state.shown = { name, screen: "" };
	try {
		const facts = await getJson(path("", name));
		set({ collection: facts, counted: facts.counted || fetchValues(name), model: models.find((one) => one.id === name) ?? null, hits: [], selected: null });
	} catch (error) {
		set({ collection: null });
		const damage = error.status === 503 && t("err.damaged", { name });
		showHeader();
		panel(damage || t("start.failed"), damage ? "" : messageOf(error), button(t("again"), follow), ...choices(name));
	}
}

/** Get the values of the columns, which take seconds of many rows: the page works meanwhile. */
async function fetchValues(name) {
	const { columns } = await getJson(path("?wait=true", name)).catch(() => ({}));
	if (columns && state.collection?.name === name) set({ collection: { ...state.collection, columns }, counted: true });
}

const openCollection = (name) => go({ name, question: noQuestion() });

const choices = (without = "") => state.collections.filter((one) => one.name !== without && one.status === "ok")
	.map(({ name }) => button([t("collection.open"), " ", nameOf(name)], () => openCollection(name)));

/** Return a screen: {node, open, leave}. All but Find come when they are opened, with their words and styles. */
async function partOf(screen) {
	if (!parts.has(screen)) {
		const [{ make, open, leave }] = screen === "find" ? [find] : await Promise.all([import(`./${screen}.js`), addWords(screen), addStyles(screen)]);
		if (!parts.has(screen)) parts.set(screen, { node: make(), open, leave });
	}
	return parts.get(screen);
}

async function show({ name, screen, question, row, extra, focus = false }) {
	const { shown } = state, isNew = shown.screen !== screen, mine = { name, screen }, words = t(`screen.${screen}`);
	if (isNew) parts.get(shown.screen)?.leave?.();
	state.shown = mine;
	set({ screen, question });
	document.title = `${visible(name)} – ${words} – embedx`;
	try {
		await partOf("find"); // and its inspector, which the map shows as well
		const part = await partOf(screen);
		if (state.shown !== mine) return;
		if (isNew) {
			const title = el("h1.unseen", { tabindex: -1 }, `${words}: ${visible(name)}`);
			fill(main, title, part.node);
			showHeader();
			if (shown.screen) focusOn(title);
			set({ collection: { ...state.collection } });
		}
		part.open({ question, row, extra, focus });
	} catch (error) {
		if (state.shown !== mine) return;
		panel(t("screen.failed"), noteCut(error) ? t("err.offline.short") : messageOf(error), button(t("again"), () => location.reload()));
	}
}

function keepSelected() {
	const { selected, shown, question } = state;
	if (selected && shown.screen === "find") history.replaceState(null, "", formatAddress({ ...shown, question, row: selected.id }));
}

function leaveField(event) {
	if (event.target.closest?.("input, textarea, select")) focusOn(mainStop(".card"));
}

function panel(title, text, ...buttons) {
	state.shown.screen = "";
	fill(main, el("div.message", el("h1", { tabindex: -1 }, title), text && el("p", text), el("div.row", ...buttons)));
	warn(`${title} ${text}`);
}

start();
