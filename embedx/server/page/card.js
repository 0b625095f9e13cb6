/* A card: one row or hit, with what is compared: picture, score, label, name, moment, and three small buttons. */

import { canvas, el, fill, iconButton, nameOf, showAt, showPlays, worded } from "./dom.js";
import { describe, isSilent, paint } from "./picture.js";
import { pictureOf, rangeOf } from "./rows.js";
import { state } from "./state.js";
import { clock, messageOf, score, t } from "./words.js";

const NAME_LENGTH = 24; // characters beside the buttons of a card of 250 px, with both ends of the name

export class Card {
	/** @param {object} actions open, play, more, less: functions of the card */
	constructor(hit, actions) {
		Object.assign(this, { hit, request: null, picture: null });
		const id = `card${hit.id}`, act = (name) => () => actions[name](this);
		const small = (icon, words, name) => iconButton(icon, words, act(name), "", { tabindex: -1 });
		this.canvas = canvas();
		this.head = el("div.playhead", { hidden: true });
		this.note = el("p.note", { hidden: true });
		this.view = el("div.picture", { role: "img", "aria-label": t("picture.none"), click: act("play") }, this.canvas, this.note, this.head);
		this.labels = el("span.label", { id: `${id}l` });
		this.playButton = small("play", t("play"), "play");
		this.node = el("article.card", { id, tabindex: -1, "aria-labelledby": `${id}s ${id}l ${id}n ${id}m`, click: (event) => event.target.closest("button, .picture") || actions.open(this) },
			this.view,
			el("div.facts",
				el("span.score", { id: `${id}s` }, "score" in hit ? score(hit.score) : ""),
				this.labels,
				el("span.moment", { id: `${id}m` }, clock(hit.start_s))),
			el("div.line",
				el("p.name", { id: `${id}n` }, nameOf(hit.path, NAME_LENGTH)),
				el("div.actions", this.playButton, small("plus", t("more"), "more"), small("minus", t("less"), "less"))));
		this.showLabel();
	}

	showLabel() {
		const { label, flags = [] } = this.hit;
		fill(this.labels, nameOf(label ?? "", 24), ...flags.map((flag) => el("span.flag", worded("flag", flag))));
	}

	async load() {
		if (this.picture || this.request) return this.paint();
		this.request = new AbortController();
		const size = devicePixelRatio > 1.25 ? { width: 640, height: 128 } : { width: 320, height: 96 };
		this.view.classList.add("loading");
		try {
			this.picture = await pictureOf(this.hit, size, this.request.signal);
			this.view.ariaLabel = describe(this.picture, this.hit.end_s - this.hit.start_s, rangeOf(this.picture.rate));
			this.paint();
		} catch (error) {
			if (error.name !== "AbortError") this.explain(isGone(error) ? messageOf(error) : t("picture.failed"));
		} finally {
			this.request = null;
			this.view.classList.remove("loading");
		}
	}

	explain(text) {
		this.note.textContent = this.view.ariaLabel = text;
		this.note.hidden = false;
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
