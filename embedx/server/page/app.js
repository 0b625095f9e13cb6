/* The start: collections, address, screens, header, what is said when the server is away. */

import { SCREENS, formatAddress, parseAddress } from "./address.js";
import { ApiError, getJson, path, post, send } from "./api.js";
import { addStyles, button, choice, el, fill, focusOn, icon, iconButton, nameOf, say, visible, warn } from "./dom.js";
import { answer, closeSheet, makeFind } from "./find.js";
import { showLabelOf } from "./hits.js";
import { command, listen } from "./keys.js";
import { stop } from "./sound.js";
import { noQuestion, on, set, state } from "./state.js";
import { addWords, messageOf, setLanguage, t } from "./words.js";

const PREPARE_MS = 2000; // after the first screen

let main, header, status, band, shown = { name: "", screen: "" }, models = [], parts = new Map();

async function start() {
  applyTheme();
  setLanguage(state.settings.language);
  frame();
  listen((screen) => go({ screen }));
  command("help", openHelp);
  on("settings", applyTheme);
  command("stop", (event) => stop() || closeSheet() || leaveField(event));
  on("offline waiting collection", showState);
  on("edited", () => state.edited.forEach((edit) => edit.column === "label" && showLabelOf(edit.id, edit.value)));
  on("selected", keepSelected);
  on("offline", () => state.offline === false && state.collection === null && load());
  on("locked", () => state.locked && signIn());
  await tradeToken();
  addEventListener("popstate", follow); // also after a change of the part behind #
  await load();
  (await import("./events.js")).followEvents();
  setTimeout(prepareMap, PREPARE_MS);
}

/** Let the server make the map, which takes seconds for many rows: then it is there when it is opened. */
const prepareMap = () => state.collection?.rows && send(`${path("/map")}?limit=1`, { headers: { Accept: "application/x-exc1" }, wait: false }).catch(() => null);

const dialogs = () => import("./settings.js");
const openSettings = async () => (await dialogs()).openSettings();
const openHelp = async () => (await dialogs()).openHelp();

const applyTheme = () => (document.documentElement.dataset.theme = state.settings.theme); // "": as the system

function frame() {
  status = el("p.state");
  band = el("p.banner", { hidden: true });
  header = el("header");
  main = el("main", { id: "main", tabindex: -1 });
  fill(document.body,
    el("a.skip", { href: "#main", click: (event) => (event.preventDefault(), focusOn(document.querySelector("#main [tabindex='0']") ?? main)) }, t("skip")),
    header, band, main,
    el("p.unseen", { id: "status", role: "status" }), el("p.unseen", { id: "alert", role: "alert" }));
  showHeader();
}

function showHeader() {
  const names = state.collections.map((one) => one.name);
  const chooser = names.length > 1
    ? choice(t("collection"), names.map((name) => [name, visible(name)]), shown.name, (name) => go({ name, question: noQuestion() }))
    : el("strong.collection", nameOf(shown.name || "embedx", 30));
  const follow = (event, screen) => event.ctrlKey || event.metaKey || event.shiftKey || (event.preventDefault(), go({ screen }));
  const links = SCREENS.map((screen) => el("a", {
    href: formatAddress({ name: shown.name, screen, question: noQuestion() }), "aria-current": shown.screen === screen ? "page" : null,
    click: (event) => follow(event, screen), // the question goes along
  }, t(`screen.${screen}`)));
  fill(header, el("span.brand", icon("wave"), el("span", "embedx")), chooser,
    el("nav", { "aria-label": t("screens") }, links), status,
    iconButton("settings", t("settings"), openSettings), iconButton("help", t("help"), openHelp));
  showState();
}

function showState() {
  const { collection, offline, waiting } = state;
  const words = offline ? t("state.offline") : waiting ? t("state.waiting", { n: waiting }) : collection && !collection.writable ? t("state.readonly") : collection ? t("state.saved") : "";
  fill(status, collection ? el("span.rows", t("rows", { n: collection.rows }), ", ") : null, words);
  status.title = collection && !collection.writable ? t("err.readonly") : "";
  const isNew = band.hidden && offline;
  band.hidden = !offline;
  band.textContent = offline ? t("err.offline", { n: waiting }) : "";
  if (isNew) warn(band.textContent);
}

/** Trade the token of `embedx open` for a cookie, and take it out of the address. */
async function tradeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", "#");
  await post("v1/session", { token }).catch((error) => warn(messageOf(error)));
}

async function load() {
  try {
    const [listed, described] = await Promise.all([getJson("v1/collections"), getJson("v1/models").catch(() => ({ data: [] }))]);
    models = described.data;
    set({ collections: listed.collections });
    await follow();
  } catch (error) {
    if (error.status !== 401) panel(t("start.failed"), messageOf(error), button(t("again"), load));
  }
}

async function signIn() {
  (await dialogs()).askToken(() => {
    set({ locked: false });
    if (state.collection) follow();
    else load();
  });
}

async function follow() {
  const wanted = parseAddress(location.hash);
  if (wanted.unknown.length) say(t("address.unknown", { what: wanted.unknown.map(visible).join(", ") }));
  const name = wanted.name || state.collections.find((one) => one.status === "ok")?.name || state.collections[0]?.name;
  if (!name) return panel(t("start.none"), t("start.none.help"));
  if (!state.collections.some((one) => one.name === name)) return panel(t("collection.unknown", { name: visible(name) }), t("collection.choose"), ...choices());
  if (shown.name !== name || !state.collection) await openCollection(name);
  if (!state.collection) return;
  show({ ...wanted, name });
}

async function openCollection(name) {
  parts.get(shown.screen)?.leave?.();
  shown = { name, screen: "" };
  try {
    const facts = await getJson(path("", name));
    set({ collection: facts, model: models.find((one) => one.id === name) ?? null, hits: [], selected: null });
  } catch (error) {
    set({ collection: null });
    const isDamaged = error instanceof ApiError && error.status === 503;
    showHeader();
    panel(isDamaged ? t("err.damaged", { name }) : t("start.failed"), isDamaged ? "" : messageOf(error), button(t("again"), () => follow()), ...choices(name));
  }
}

const choices = (without = "") => state.collections.filter((one) => one.name !== without && one.status === "ok").map((one) =>
  button([t("collection.open"), " ", nameOf(one.name)], () => go({ name: one.name, question: noQuestion() })));

/**
 * Return a screen: {node, open, leave}. All but Find come when they are opened, with their words and styles: make(go,
 * inspector) of their module returns the element, where inspector() gives the panel of the selected row.
 */
async function partOf(screen) {
  if (parts.has(screen)) return parts.get(screen);
  let part;
  if (screen === "find") {
    const node = makeFind((asked, options) => go({ question: asked, row: null, ...options })), panel = node.querySelector(".inspector");
    part = { node, panel, open: ({ question, ...options }) => (node.append(panel), answer(question, options)) };
  } else {
    const [module] = await Promise.all([import(`./${screen}.js`), addWords(screen), addStyles(screen)]);
    part = parts.get(screen) ?? { node: module.make(go, async () => (await partOf("find")).panel), open: module.open, leave: module.leave };
  }
  parts.set(screen, part);
  return part;
}

async function show({ name, screen, question, row, extra = {}, focus = false }) {
  const isNew = shown.screen !== screen, isFirst = !shown.screen, mine = { name, screen };
  if (isNew) parts.get(shown.screen)?.leave?.();
  shown = mine;
  set({ screen, question });
  document.title = `${visible(name)} – ${t(`screen.${screen}`)} – embedx`;
  let part;
  try {
    part = await partOf(screen);
  } catch (error) {
    if (shown === mine) panel(t("start.failed"), messageOf(error), button(t("again"), () => location.reload()));
    return;
  }
  if (shown !== mine) return;
  if (isNew) {
    const title = el("h1.unseen", { tabindex: -1 }, `${t(`screen.${screen}`)}: ${visible(name)}`);
    fill(main, title, part.node);
    showHeader();
    if (!isFirst) focusOn(title);
    set({ collection: { ...state.collection } });
  }
  part.open({ question, row, extra, focus });
}

function go({ name = shown.name, screen = "find", question = state.question, row = null, extra = {}, replace = false, focus = false }) {
  const address = formatAddress({ name, screen, question, row, extra });
  if (address === location.hash) return;
  if (name !== shown.name) return void (location.hash = address);
  history[replace ? "replaceState" : "pushState"](null, "", address);
  show({ name, screen, question, row, extra, focus });
}

function keepSelected() {
  if (!state.selected || shown.screen !== "find") return;
  const address = formatAddress({ name: shown.name, screen: "find", question: state.question, row: state.selected.id });
  history.replaceState(null, "", address);
}

function leaveField(event) {
  const field = event.target.closest?.("input, textarea, select");
  if (field) focusOn(document.querySelector(".card[tabindex='0']") ?? main);
}

function panel(title, text, ...buttons) {
  shown.screen = "";
  fill(main, el("div.message", el("h1", { tabindex: -1 }, title), text && el("p", text), el("div.row", ...buttons)));
  warn(`${title} ${text}`);
}

start();
