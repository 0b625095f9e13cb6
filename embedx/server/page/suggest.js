/* Suggestions: which rows to label next. */

import { path, post } from "./api.js";
import { quotedName } from "./filter.js";
import { columnOf, headOf } from "./names.js";
import { countRows, rowsOf } from "./rows.js";
import { state } from "./state.js";
import { isLabelled } from "./undo.js";

export const WAYS = ["margin", "diverse", "band", "random", "hits", "selection"];
export const WITH_HEAD = ["margin", "band"];
const LIMIT = 24;
const MAX_ROWS = 200;

const emptyIn = (column) => `(${quotedName(column)} IS NULL OR ${quotedName(column)} = '')`;

export const hasHead = (task) => Boolean(state.collection.heads?.some(({ name }) => name === headOf(task)));

/** Return the rows to label next, the most useful first: `by` is one of WAYS, `head` "" for that of the task. */
export async function suggestRows(task, { by, head: chosen, low, high, name }, without) {
	if (by === "hits" || by === "selection") return chosenRows(task, by, new Set(without));
	const head = chosen || (hasHead(task) ? headOf(task) : null);
	const band = by === "band" ? { score_band: [low, high], of_class: name || null } : {};
	const conditions = [task.column, "review"].filter(columnOf).map(emptyIn);
	if (without.length) conditions.push(`id NOT IN (${without})`);
	if (!(await countRows(conditions.join(" AND ")))) return [];
	const filter = columnOf("review") ? emptyIn("review") : null, seed = Math.floor(Math.random() * 1e6);
	return (await post(path("/suggest"), { by, head, label: task.column, limit: LIMIT, filter, not: without, seed, ...band })).rows;
}

/** Return rows without a label among the hits, or the selection of the map. */
async function chosenRows(task, by, without) {
	const ids = (by === "hits" ? state.hits.map((row) => row.id) : (state.selection ?? [])).filter((id) => !without.has(id));
	const chosen = [];
	for (let from = 0; from < ids.length && chosen.length < LIMIT; from += MAX_ROWS) {
		chosen.push(...(await rowsOf(ids.slice(from, from + MAX_ROWS))).filter((row) => !isLabelled(row, task.column)));
	}
	return chosen;
}

export const countLabelled = async ({ column }) => (columnOf(column) ? countRows(`NOT ${emptyIn(column)}`) : 0);
