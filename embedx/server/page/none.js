/* No hits: which condition leaves how many rows out, each removable. */

import { path, post } from "./api.js";
import { button, el, fill, nameOf } from "./dom.js";
import { conditionsOf, joined, sentenceOf } from "./filter.js";
import { state } from "./state.js";
import { t } from "./words.js";

/** Fill a list with the conditions, each with the rows that are found without it; `ask` takes a new question. */
export async function explainConditions(list, where, ask) {
  const conditions = conditionsOf(where);
  fill(list, await Promise.all(conditions.map(async (condition, index) => {
    const others = joined(conditions.filter((_, i) => i !== index));
    const { rows } = others ? await post(path("/count"), { filter: others }).catch(() => ({ rows: null })) : state.collection;
    return el("li", nameOf(sentenceOf(condition), 60), " ", rows !== null && t("none.without", { n: rows }), " ",
      button(t("remove.short"), () => ask({ ...state.question, where: others }), "small"));
  })));
}
