/* Conflicts: somebody else has set a value meanwhile. It stays until the user chooses; labelling goes on. */

import { button, el, nameOf, warn } from "./dom.js";
import { on, state } from "./state.js";
import { t } from "./words.js";

let shownName = ""; // the collection that the conflicts are of

on("collection", () => state.collection?.name !== shownName && document.querySelector("aside.conflicts")?.remove());

/** Show the values of others beside mine. `take` gives edits: mine over theirs. */
export function showConflict(mine, theirs, take) {
  shownName = state.collection.name;
  const [{ id, value, by }] = theirs;
  const name = [...state.hits, ...state.queue, state.selected].find((row) => row?.id === id)?.path.split("/").at(-1) ?? t("row", { id });
  const label = (one) => one ?? t("label.none");
  const text = theirs.length > 1
    ? [t("label.conflict", { n: theirs.length, value: label(value) })]
    : [nameOf(name, 40), ` ${t("conflict", { by: by ?? t("somebody"), theirs: label(value), mine: label(mine[0].value) })}`];
  const choose = (action) => {
    action();
    line.remove();
    if (!region.children.length) region.remove();
  };
  const line = el("p.banner.row", el("span", text),
    button(t("conflict.keep"), () => choose(() => null), "small"),
    button(t("conflict.take"), () => choose(() => take(mine.map((edit) => ({ ...edit, was: theirs.find((one) => one.id === edit.id).value })))), "small"));
  const region = document.querySelector("aside.conflicts") ?? el("aside.conflicts", { "aria-label": t("conflicts") });
  document.querySelector("main").before(region);
  region.append(line);
  warn(line.firstChild.textContent);
}
