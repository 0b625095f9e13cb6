/* Dialogs: settings, which hold for every picture and sound at once, and the list of all keys. */

import { post } from "./api.js";
import { addStyles, button, checkbox, choice, el, errorBox, fill, focusOn, showText } from "./dom.js";
import { KEYS, isBound, keysOf } from "./keys.js";
import { setSettings, state } from "./state.js";
import { addWords, t } from "./words.js";

await Promise.all([addWords("settings"), addStyles("settings")]);

const CHOICES = {
  colours: ["night", "paper", "ink"],
  scale: ["mel", "linear"],
  window_ms: [0, 6, 23, 46, 93],
  theme: ["", "light", "dark"],
  language: ["", "en", "de"],
};

/** Open a dialog over the page; after it the focus is where it was. */
export function openDialog(title, ...children) {
  const before = document.activeElement;
  const dialog = el("dialog", { "aria-labelledby": "dialogtitle" },
    el("h2", { id: "dialogtitle" }, title), ...children,
    el("div.row.end", button(t("close"), () => dialog.close(), "primary")));
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (before?.isConnected) focusOn(before);
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

const labelled = (name, control) => [el("label", { for: `set-${name}` }, t(`set.${name}`)), control];

function list(name) {
  const isNumber = CHOICES[name].every(Number.isFinite), options = CHOICES[name].map((value) => [value, value && isNumber ? `${value} ms` : t(`set.${name}.${value || "auto"}`)]);
  return labelled(name, choice(null, options, state.settings[name], (value) => change(name, isNumber ? Number(value) : value), { id: `set-${name}` }));
}

function range(name, fields) {
  const slider = el("input", { type: "range", id: `set-${name}`, ...fields, value: String(state.settings[name]), input: () => change(name, Number(slider.value)) });
  return labelled(name, slider);
}

const flag = (name) => labelled(name, checkbox(state.settings[name], (value) => change(name, value), { id: `set-${name}` }));

function change(name, value) {
  setSettings({ [name]: value });
  if (name === "language") location.reload();
}

export function openSettings() {
  const name = el("input", { type: "text", id: "set-name", maxlength: 60, value: state.settings.name, change: () => setSettings({ name: name.value }) });
  openDialog(t("settings"), el("div.form",
    el("h3", t("set.pictures")), ...list("colours"), ...list("scale"), ...list("window_ms"),
    ...range("fmin", { type: "number", min: 0, max: 100_000, step: 50 }), ...range("fmax", { type: "number", min: 0, max: 200_000, step: 50 }),
    ...range("contrast", { min: -10, max: 10, step: 1 }), ...flag("fixed"),
    el("h3", t("set.sound")), ...range("volume", { min: 0, max: 1, step: 0.05 }), ...flag("level"), ...flag("pitch"), ...flag("loop"), ...flag("chain"),
    el("h3", t("set.page")), ...list("theme"), ...list("language"), ...flag("keys"), ...labelled("name", name)));
}

export function openHelp() {
  const body = el("tbody");
  const search = el("input", { type: "search", "aria-label": t("help.search"), placeholder: t("help.search"), input: () => fillRows() });
  const shown = (key) => (key === " " ? t("key.space") : key.startsWith("Arrow") ? t("key.arrows") : key);
  function fillRows() {
    const part = search.value.toLowerCase();
    fill(body, Object.keys(KEYS).filter(isBound).filter((name) => t(`key.${name}`).toLowerCase().includes(part)).map((name) => {
      const words = t(`key.${name}`);
      const cell = KEYS[name][0].every((key) => /^[a-z]$/.test(key)) ? ownKey(name, words) : [...new Set(keysOf(name).map(shown))].map((key) => el("kbd", key));
      return el("tr", el("th", { scope: "row" }, words), el("td", cell));
    }));
  }
  fillRows();
  openDialog(t("help"), search, el("table.keylist", body));
}

function ownKey(name, words) {
  const field = el("input.key", { type: "text", maxlength: 1, value: keysOf(name)[0] ?? "", "aria-label": t("key.of", { what: words }),
    input: () => setSettings({ ownKeys: { ...state.settings.ownKeys, [name]: field.value.toLowerCase() } }) });
  return field;
}

export function askToken(signedIn) {
  const field = el("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const problem = errorBox();
  const send = async (event) => {
    event.preventDefault();
    try {
      await post("v1/session", { token: field.value });
      dialog.close();
      dialog.remove();
      signedIn();
    } catch {
      showText(problem, t("token.wrong"));
    }
  };
  const dialog = el("dialog", { "aria-labelledby": "tokentitle" }, el("form", { submit: send },
    el("h2", { id: "tokentitle" }, t("token.title")), el("label", { for: "token" }, t("token.field")), field, problem,
    el("div.row.end", el("button.primary", { type: "submit" }, t("token.send")))));
  document.body.append(dialog);
  dialog.showModal();
}
