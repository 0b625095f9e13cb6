/* A card: one row or hit. */

import { latest } from "./api.js";
import { canvas, el, fill, iconButton, nameOf, showAt, showPlays, worded } from "./dom.js";
import { describe, isSilent, paint } from "./picture.js";
import { pictureOf, rangeOf } from "./rows.js";
import { state } from "./state.js";
import { channelOf, clock, messageOf, score, t } from "./words.js";

const NAME_LENGTH = 24; // characters beside the buttons of a card of 250 px

/** The picture of a row, or a note where there is none; `marks` lie over it. */
export class RowPicture {
	next = latest();
	canvas = canvas();
	note = el("p.note", { hidden: true });
	levels = null;

	constructor(attributes, ...marks) {
		this.node = el("div.picture", { role: "img", "aria-label": t("picture.none"), ...attributes }, this.canvas, this.note, ...marks);
	}

	async load(row, size) {
		const signal = this.next();
		this.node.classList.add("loading");
		try {
			this.levels = await pictureOf(row, size, signal);
			this.paint();
			const { start_s, end_s } = { ...row, ...this.levels };
			this.node.ariaLabel = describe(this.levels, end_s - start_s, this.range);
		} catch (error) {
			if (signal.aborted) return;
			const isGone = error.status === 410 || error.code === "no_audio";
			this.explain((this.node.ariaLabel = isGone ? messageOf(error) : t("picture.failed")));
		}
		this.node.classList.remove("loading");
	}

	paint() {
		if (!this.levels) return;
		this.range = rangeOf(this.levels.rate);
		paint(this.canvas, this.levels, state.settings);
		this.explain(isSilent(this.levels) ? t("silence") : "");
	}

	explain(text) {
		this.note.textContent = text;
		this.note.hidden = !text;
	}

	/** Give the memory of the canvas back, and stop asking. */
	unload() {
		this.next();
		this.node.classList.remove("loading");
		this.canvas.width = this.canvas.height = 1;
		this.levels = null;
	}
}

export class Card {
	/** @param {object} actions open, play, more, less: functions of the card */
	constructor(hit, actions) {
		const id = `card${hit.id}`, act = (name) => () => actions[name](this);
		const small = (icon, words, name) => iconButton(icon, words, act(name), "", { tabindex: -1 });
		this.hit = hit;
		this.head = el("div.playhead", { hidden: true });
		this.picture = new RowPicture({ click: act("play") }, this.head);
		this.labels = el("span.label", { id: `${id}l` });
		this.playButton = small("play", t("play"), "play");
		this.node = el("article.card", { id, tabindex: -1, "aria-labelledby": `${id}s ${id}l ${id}n ${id}m`, click: (event) => event.target.closest("button, .picture") || actions.open(this) },
			this.picture.node,
			el("div.facts",
				el("span.score", { id: `${id}s` }, "score" in hit ? score(hit.score) : ""),
				this.labels,
				el("span.moment", { id: `${id}m` }, clock(hit.start_s) + channelOf(hit))),
			el("div.line",
				el("p.name", { id: `${id}n` }, nameOf(hit.path, NAME_LENGTH)),
				el("div.actions", this.playButton, small("plus", t("more"), "more"), small("minus", t("less"), "less"))));
		this.showLabel();
	}

	showLabel() {
		const { label, flags = [] } = this.hit;
		fill(this.labels, nameOf(label ?? "", 24), ...flags.map((flag) => el("span.flag", worded("flag", flag))));
	}

	load() {
		this.picture.load(this.hit, devicePixelRatio > 1.25 ? { width: 640, height: 128 } : { width: 320, height: 96 });
	}

	showHead(share) {
		showAt(this.head, share);
	}

	showPlaying(isPlaying) {
		showPlays(this.playButton, isPlaying);
		if (!isPlaying) this.showHead(null);
	}
}
