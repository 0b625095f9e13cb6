/* Export: the rows that are shown, as a file that the server makes. */

import { path, post } from "./api.js";
import { button, el, say, warn } from "./dom.js";
import { openDialog } from "./settings.js";
import { state } from "./state.js";
import { messageOf, t } from "./words.js";

const FORMATS = ["csv", "raven", "audacity", "clips"];

export function openExport(ids = state.hits.map((hit) => hit.id)) {
  const dialog = openDialog(t("export"), el("p", t("export.what", { n: ids.length })),
    el("div.row", FORMATS.map((format) => button(t(`export.${format}`), () => exportAs(ids, format, dialog)))));
}

async function exportAs(ids, format, dialog) {
  dialog.close();
  try {
    const { url } = await post(path("/exports"), { ids, format });
    el("a", { href: `v1/${url}`, download: "" }).click();
    say(t("export.done"));
  } catch (error) {
    warn(messageOf(error));
  }
}
