/* Heads: train one again on what is labelled, and show what has changed. */

import { doneJob, path, post } from "./api.js";
import { button, el, muted, nameOf } from "./dom.js";
import { matrix } from "./matrix.js";
import { score, t } from "./words.js";

const MAX_SHOWN = 50; // flipped rows

export async function train(column, name, signal) {
  const { job } = await post(path("/heads"), { label: column, name, wait: false }, { signal });
  return doneJob(job, signal);
}

const signed = (value) => (value < 0 ? `−${score(-value)}` : `+${score(value)}`);

export function sentenceOf({ balanced_accuracy: figure, before, difference, flipped_rows: flipped }) {
  if (!figure) return t("trained.none");
  const [low, value, high] = figure;
  const parts = [before === null || before === undefined
    ? t("trained.first", { value: score(value), low: score(low), high: score(high) })
    : t("trained.again", { before: score(before), value: score(value), low: signed(difference[0]), high: signed(difference[2]) })];
  if (before !== null && before !== undefined) parts.push(t("trained.interval", { low: score(low), high: score(high) }));
  parts.push(t("trained.flipped", { n: flipped }));
  return parts.join(", ");
}

export function resultOf(job, open) {
  return el("details.trained",
    el("summary", sentenceOf(job)),
    ...job.notes.map((note) => muted(note)),
    job.confusion && matrix(job.confusion, job.labels),
    job.flipped.length > 0 && el("h3", t("flipped")),
    job.flipped.length > 0 && el("ul.flipped", job.flipped.slice(0, MAX_SHOWN).map(({ id, from, to }) => el("li",
      button([t("row", { id }), ": ", nameOf(from, 24), " → ", nameOf(to, 24)], () => open(id), "plain small")))),
    job.flipped_rows > MAX_SHOWN && muted(t("flipped.more", { n: job.flipped_rows - MAX_SHOWN })));
}
