/* A confusion matrix as a table: a line for each true class, a column for each predicted one. */

import { addStyles, el, nameOf } from "./dom.js";
import { number, t } from "./words.js";

await addStyles("matrix");

export function matrix(counts, classes) {
  return el("div.scroll", { tabindex: 0, role: "group", "aria-label": t("confusion") }, el("table.matrix",
    el("thead", el("tr", el("th", { scope: "col" }, t("confusion.true")), classes.map((one) => el("th", { scope: "col" }, nameOf(one, 14))))),
    el("tbody", counts.map((row, i) => {
      const all = Math.max(1, row.reduce((sum, n) => sum + n, 0));
      return el("tr", el("th", { scope: "row" }, nameOf(classes[i], 20)), row.map((n, j) => {
        const cell = el(i === j ? "td.right" : "td", n ? number(n, 0) : "");
        cell.style.setProperty("--share", `${Math.round((100 * n) / all)}%`);
        return cell;
      }));
    }))));
}
