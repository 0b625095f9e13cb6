/* A stretch of a sound: two handles for pointer and keys, and number fields. */

import { debounce, el, followPointer, shareAt, showAt, showValue, slider } from "./dom.js";
import { clamp } from "./scale.js";
import { number, t } from "./words.js";

const REST_MS = 250; // after the last change, before a search
const MIN_S = 0.05;
const SIDES = ["start", "end"];

export class Stretch {
	constructor(duration, [start, end], changed) {
		this.duration = duration;
		this.changed = debounce(() => changed(this.start, this.end), REST_MS);
		this.mark = el("div.marked");
		this.head = el("div.playhead", { hidden: true });
		this.handles = SIDES.map((side) => slider(`div.handle.${side}`, t(`stretch.${side}`), {
			high: duration, place: () => this[side], step: ({ altKey, shiftKey }) => (altKey ? 0.01 : shiftKey ? 1 : 0.1),
			move: (to) => this.move(side, to), pointerdown: (event) => this.drag(event, side),
		}));
		this.inputs = SIDES.map((side) => el("input", {
			type: "number", min: 0, max: duration.toFixed(2), step: 0.1, "aria-label": t(`stretch.${side}`), change: (event) => this.move(side, Number(event.target.value)),
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
			showValue(this.handles[i], (this.inputs[i].value = value.toFixed(2)), `${number(value, 2)} s`);
		});
	}

	/** Move one end, but not to the other. */
	move(side, time) {
		const at = clamp(time, 0, this.duration);
		if (side === "start") this.set(Math.min(at, this.end - MIN_S), this.end);
		else this.set(this.start, Math.max(at, this.start + MIN_S));
		this.changed();
	}

	timeAt(event) {
		return shareAt(this.node, event) * this.duration;
	}

	drag(event, side) {
		event.stopPropagation();
		followPointer(this.node, event, (now) => this.move(side, this.timeAt(now)));
	}

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
