/* Export: the rows that are shown, as files of the server; a server without exports gets a CSV file made here. */

import { path, post } from "./api.js";
import { button, el, say, warn } from "./dom.js";
import { openDialog } from "./settings.js";
import { state } from "./state.js";
import { messageOf, t } from "./words.js";

const FORMATS = ["csv", "raven", "audacity", "clips"];
const COLUMNS = ["id", "score", "path", "start_s", "end_s", "label"];

/** Ask for the format, then export the rows that are shown. */
export function openExport() {
  const dialog = openDialog(t("export"), el("p", {}, t("export.what", { n: state.hits.length })),
    el("div", { class: "row" }, FORMATS.map((format) => button(t(`export.${format}`), () => exportAs(format, dialog)))));
}

async function exportAs(format, dialog) {
  dialog.close();
  try {
    const { url } = await post(path("/exports"), { ids: state.hits.map((hit) => hit.id), format });
    save(path(`/${url}`), "");
  } catch (error) {
    if (!error.isMissing) return warn(messageOf(error));
    if (format !== "csv") return warn(t("export.missing"));
    const file = URL.createObjectURL(new Blob([csvOf(state.hits)], { type: "text/csv" }));
    save(file, "hits.csv");
    setTimeout(() => URL.revokeObjectURL(file), 60_000);
  }
  say(t("export.done"));
}

function save(href, name) {
  el("a", { href, download: name }).click();
}

/** Return rows as CSV with all metadata; cells that a spreadsheet would run are defused. */
export function csvOf(hits) {
  const names = [...new Set(hits.flatMap((hit) => Object.keys(hit.meta ?? {})))].filter((name) => !COLUMNS.includes(name));
  const lines = hits.map((hit) => [...COLUMNS.map((name) => hit[name]), ...names.map((name) => hit.meta[name])]);
  return [[...COLUMNS, ...names], ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  if (typeof value === "number") return String(value);
  const text = String(value ?? "");
  return `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}
