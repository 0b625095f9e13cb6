/* Heads: train one again on what is labelled, and show what has changed. */

import { getJson, path, post } from "./api.js";
import { button, el, nameOf } from "./dom.js";
import { number, t } from "./words.js";

const LOOK_MS = 400; // between two questions whether a job is done
const MAX_SHOWN = 50; // flipped rows

/** Train a head, and return its figures; an error has a message. */
export async function train(column, name, signal) {
  const { job } = await post(path("/heads"), { label: column, name, wait: false }, { signal });
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    const now = await getJson(`v1/jobs/${job}`, { signal });
    if (now.state === "failed") throw Object.assign(new Error(now.error.message), { code: now.error.code, hint: now.error.hint, status: 0 });
    if (now.state === "done") return now;
  }
}

const two = (value) => number(value, 2);
const signed = (value) => (value < 0 ? `−${two(-value)}` : `+${two(value)}`);

/** Return the figures as one sentence. */
export function sentenceOf({ balanced_accuracy: figure, before, difference, flipped_rows: flipped }) {
  if (!figure) return t("trained.none");
  const [low, value, high] = figure;
  const parts = [before === null || before === undefined
    ? t("trained.first", { value: two(value), low: two(low), high: two(high) })
    : t("trained.again", { before: two(before), value: two(value), low: signed(difference[0]), high: signed(difference[2]) })];
  if (before !== null && before !== undefined) parts.push(t("trained.interval", { low: two(low), high: two(high) }));
  parts.push(t("trained.flipped", { n: flipped }));
  return parts.join(", ");
}

/** Return the figures as an element that opens: the confusion matrix, and the rows whose prediction has changed. */
export function resultOf(job, open) {
  return el("details", { class: "trained" },
    el("summary", {}, sentenceOf(job)),
    ...job.notes.map((note) => el("p", { class: "muted" }, note)),
    job.confusion && confusionOf(job.labels, job.confusion),
    job.flipped.length > 0 && el("h3", {}, t("flipped")),
    job.flipped.length > 0 && el("ul", { class: "flipped" }, job.flipped.slice(0, MAX_SHOWN).map(({ id, from, to }) => el("li", {},
      button([t("row", { id }), ": ", nameOf(from, 24), " → ", nameOf(to, 24)], () => open(id), { class: "plain small" })))),
    job.flipped_rows > MAX_SHOWN && el("p", { class: "muted" }, t("flipped.more", { n: job.flipped_rows - MAX_SHOWN })));
}

/** Return a confusion matrix as a table: a line for each label, a column for each prediction. */
export function confusionOf(labels, matrix) {
  const most = Math.max(1, ...matrix.flat());
  const cell = (value, place, line) => {
    const node = el("td", { class: place === line ? "right" : "" }, number(value, 0));
    node.style.setProperty("--share", `${(100 * value) / most}%`);
    return node;
  };
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("confusion") },
    el("table", { class: "confusion" },
      el("caption", {}, t("confusion")),
      el("thead", {}, el("tr", {}, el("td"), labels.map((label) => el("th", { scope: "col" }, nameOf(label, 12))))),
      el("tbody", {}, matrix.map((line, row) => el("tr", {}, el("th", { scope: "row" }, nameOf(labels[row], 20)),
        line.map((value, place) => cell(value, place, row)))))));
}
