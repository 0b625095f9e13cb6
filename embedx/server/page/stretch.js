/* A stretch of a sound: two handles that can be dragged or moved by keys, and number fields beside them. */

import { debounce, el, followPointer, showAt } from "./dom.js";
import { number, t } from "./words.js";

const REST_MS = 250; // after the last change, before a search
const MIN_S = 0.05;

/** The stretch [start, end] in seconds of a sound of `duration` seconds. */
export class Stretch {
  constructor(duration, [start, end], changed) {
    Object.assign(this, { duration, start, end });
    this.changed = debounce(() => changed(this.start, this.end), REST_MS);
    this.mark = el("div.marked");
    this.head = el("div.playhead", { hidden: true });
    this.handles = ["start", "end"].map((side) => el(`div.handle.${side}`, {
      role: "slider", tabindex: 0, "aria-label": t(`stretch.${side}`), "aria-valuemin": 0,
      "aria-valuemax": duration.toFixed(2), keydown: (event) => this.step(event, side), pointerdown: (event) => this.drag(event, side),
    }));
    this.inputs = ["start", "end"].map((side) => el("input", {
      type: "number", min: 0, max: duration.toFixed(2), step: 0.1, "aria-label": t(`stretch.${side}`),
      change: (event) => this.move(side, Number(event.target.value)),
    }));
    this.fields = el("span.stretchfields", this.inputs[0], "–", this.inputs[1], " s");
    this.node = el("div.stretch", { pointerdown: (event) => this.dragNew(event) }, this.mark, ...this.handles, this.head);
    this.show();
  }

  set(start, end) {
    Object.assign(this, { start, end });
    this.show();
  }

  show() {
    showAt(this.mark, this.start / this.duration);
    this.mark.style.inlineSize = `${(100 * (this.end - this.start)) / this.duration}%`;
    for (const [i, value] of [this.start, this.end].entries()) {
      showAt(this.handles[i], value / this.duration);
      this.handles[i].ariaValueNow = value.toFixed(2);
      this.handles[i].ariaValueText = `${number(value, 2)} s`;
      this.inputs[i].value = value.toFixed(2);
    }
  }

  /** Move one end to a time; the other keeps its distance of at least 50 ms. */
  move(side, time) {
    const at = Math.max(0, Math.min(this.duration, Number.isFinite(time) ? time : 0));
    if (side === "start") this.start = Math.min(at, this.end - MIN_S);
    else this.end = Math.max(at, this.start + MIN_S);
    this.show();
    this.changed();
  }

  step(event, side) {
    const size = event.altKey ? 0.01 : event.shiftKey ? 1 : 0.1;
    const direction = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    const to = direction ? this[side] + direction * size : { Home: 0, End: this.duration }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.move(side, to);
  }

  timeAt(event) {
    const box = this.node.getBoundingClientRect();
    return ((event.clientX - box.left) / box.width) * this.duration;
  }

  drag(event, side) {
    event.stopPropagation();
    followPointer(this.node, event, (now) => this.move(side, this.timeAt(now)));
  }

  /** A drag beside the handles chooses a new stretch. */
  dragNew(event) {
    const from = this.timeAt(event);
    followPointer(this.node, event, (now) => {
      const to = this.timeAt(now);
      if (Math.abs(to - from) < MIN_S) return;
      this.start = Math.max(0, Math.min(from, to));
      this.end = Math.min(this.duration, Math.max(from, to));
      this.show();
      this.changed();
    });
  }

  showHead(at) {
    showAt(this.head, at === null ? null : at / this.duration);
  }
}
