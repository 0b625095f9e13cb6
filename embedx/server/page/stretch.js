/* A stretch of a sound: two handles that can be dragged or moved by keys, and number fields beside them. */

import { clamp, consume, debounce, el, followPointer, shareAt, showAt } from "./dom.js";
import { number, t } from "./words.js";

const REST_MS = 250; // after the last change, before a search
const MIN_S = 0.05;

export class Stretch {
	constructor(duration, [start, end], changed) {
		Object.assign(this, { duration, start, end });
		this.changed = debounce(() => changed(this.start, this.end), REST_MS);
		this.mark = el("div.marked");
		this.head = el("div.playhead", { hidden: true });
		const max = duration.toFixed(2);
		this.handles = ["start", "end"].map((side) => el(`div.handle.${side}`, {
			role: "slider", tabindex: 0, "aria-label": t(`stretch.${side}`), "aria-valuemin": 0, "aria-valuemax": max,
			keydown: (event) => this.step(event, side), pointerdown: (event) => this.drag(event, side),
		}));
		this.inputs = ["start", "end"].map((side) => el("input", {
			type: "number", min: 0, max, step: 0.1, "aria-label": t(`stretch.${side}`), change: (event) => this.move(side, Number(event.target.value)),
		}));
		this.fields = el("span.stretchfields", this.inputs[0], "–", this.inputs[1], " s");
		this.node = el("div.stretch", { pointerdown: (event) => this.dragNew(event) }, this.mark, ...this.handles, this.head);
		this.set(start, end);
	}

	set(start, end) {
		Object.assign(this, { start, end });
		showAt(this.mark, start / this.duration);
		this.mark.style.width = `${(100 * (end - start)) / this.duration}%`;
		[start, end].forEach((value, i) => {
			showAt(this.handles[i], value / this.duration);
			this.handles[i].ariaValueNow = this.inputs[i].value = value.toFixed(2);
			this.handles[i].ariaValueText = `${number(value, 2)} s`;
		});
	}

	/** Move one end to a time; the other keeps its distance of at least 50 ms. */
	move(side, time) {
		const at = clamp(time || 0, 0, this.duration);
		if (side === "start") this.set(Math.min(at, this.end - MIN_S), this.end);
		else this.set(this.start, Math.max(at, this.start + MIN_S));
		this.changed();
	}

	step(event, side) {
		const size = event.altKey ? 0.01 : event.shiftKey ? 1 : 0.1;
		const direction = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
		const to = direction ? this[side] + direction * size : { Home: 0, End: this.duration }[event.key];
		if (to === undefined) return;
		consume(event);
		this.move(side, to);
	}

	timeAt(event) {
		return shareAt(this.node, event) * this.duration;
	}

	drag(event, side) {
		event.stopPropagation();
		followPointer(this.node, event, (now) => this.move(side, this.timeAt(now)));
	}

	/** A drag beside the handles chooses a new stretch. */
	dragNew(event) {
		const from = this.timeAt(event);
		followPointer(this.node, event, (now) => {
			const ends = [from, this.timeAt(now)].sort((a, b) => a - b);
			if (ends[1] - ends[0] < MIN_S) return;
			this.set(...ends);
			this.changed();
		});
	}

	showHead(at) {
		showAt(this.head, at === null ? null : at / this.duration);
	}
}
