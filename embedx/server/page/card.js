/* A card: one row or hit, with what is compared: picture, score, label, name, moment, and three small buttons. */

import { canvas, el, fill, iconButton, nameOf, showAt, showPlays, worded } from "./dom.js";
import { describe, isSilent, paint } from "./picture.js";
import { pictureOf, rangeOf } from "./rows.js";
import { state } from "./state.js";
import { clock, messageOf, score, t } from "./words.js";

const NAME_LENGTH = 27; // characters beside the buttons of a card of 280 px, with both ends of the name
const SIZES = { 1: { width: 320, height: 96 }, 2: { width: 640, height: 128 } };

export class Card {
  /** @param {object} actions open, play, more, less: functions of the card */
  constructor(hit, actions) {
    this.hit = hit;
    this.actions = actions;
    this.request = null;
    this.picture = null;
    const id = `card${hit.id}`;
    this.canvas = canvas();
    this.head = el("div.playhead", { hidden: true });
    this.note = el("p.note", { hidden: true });
    this.view = el("div.picture", { role: "img", "aria-label": t("picture.none"), click: () => actions.play(this) },
      this.canvas, this.note, this.head);
    this.labels = el("span.label", { id: `${id}l` });
    this.playButton = iconButton("play", t("play"), () => actions.play(this), "", { tabindex: -1 });
    this.node = el("article.card", { id, tabindex: -1, "aria-labelledby": `${id}s ${id}l ${id}n ${id}m`, click: (event) => this.click(event) },
      this.view,
      el("div.facts",
        el("span.score", { id: `${id}s` }, "score" in hit ? score(hit.score) : ""),
        this.labels,
        el("span.moment", { id: `${id}m` }, clock(hit.start_s))),
      el("div.line",
        el("p.name", { id: `${id}n` }, nameOf(hit.path, NAME_LENGTH)),
        el("div.actions",
          this.playButton,
          iconButton("plus", t("more"), () => actions.more(this), "", { tabindex: -1 }),
          iconButton("minus", t("less"), () => actions.less(this), "", { tabindex: -1 }))),
    );
    this.showLabel();
  }

  click(event) {
    if (!event.target.closest("button, .picture")) this.actions.open(this);
  }

  showLabel() {
    const { label, flags = [] } = this.hit;
    fill(this.labels, label === null || label === undefined ? "" : nameOf(label, 24),
      ...flags.map((flag) => el("span.flag", worded("flag", flag))));
  }

  async load() {
    if (this.picture || this.request) return this.paint();
    this.request = new AbortController();
    const size = SIZES[devicePixelRatio > 1.25 ? 2 : 1];
    this.view.classList.add("loading");
    try {
      this.picture = await pictureOf(this.hit, size, this.request.signal);
      this.range = rangeOf(this.picture.rate);
      this.view.ariaLabel = describe(this.picture, this.hit.end_s - this.hit.start_s, this.range);
      this.paint();
    } catch (error) {
      if (error.name !== "AbortError") this.explain(isGone(error) ? messageOf(error) : t("picture.failed"));
    } finally {
      this.request = null;
      this.view.classList.remove("loading");
    }
  }

  explain(text) {
    this.note.textContent = text;
    this.note.hidden = false;
    this.view.ariaLabel = text;
  }

  paint() {
    if (!this.picture) return;
    paint(this.canvas, this.picture, state.settings);
    if (isSilent(this.picture)) this.explain(t("silence"));
  }

  /** Give the memory of the canvas back, and stop asking for what is not in view. */
  unload() {
    this.request?.abort();
    this.canvas.width = this.canvas.height = 1;
    this.picture = null;
  }

  showHead(share) {
    showAt(this.head, share);
  }

  showPlaying(isPlaying) {
    showPlays(this.playButton, isPlaying);
    if (!isPlaying) this.showHead(null);
  }
}

export const isGone = (error) => error.status === 410 || error.code === "no_audio" || error.code === "audio_gone";
