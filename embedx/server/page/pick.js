/* What is pointed at on the map, and what is selected: hover, click, lasso, the cross of the keyboard, and the bar of the selection. */

import { Card } from "./card.js";
import { button, checkbox, el, fill, mutedWord, say, warn } from "./dom.js";
import { nameField, valuesOf } from "./names.js";
import { rowOf, rowsOf, soundOf } from "./rows.js";
import { play, stop } from "./sound.js";
import { noQuestion, on, set, setSettings, state } from "./state.js";
import { giveLabel, whyReadOnly } from "./undo.js";
import { messageOf, t } from "./words.js";

const HIT = 8, TOUCH_HIT = 16; // pixels from a point
const HOVER_MS = 80, SOUND_MS = 250; // at rest on a point, before it is shown, and before it sounds
const DRAG = 4; // pixels, from which a press is a drag
const STEP = 16; // pixels of the cross of the keyboard
const MAX_LABELLED = 10_000; // edits of one change
const MAX_WHERE = 1000; // rows of a condition in the address
const MAX_KNOWN = 500; // rows that are kept

export class Picker {
  /** @param {object} map the elements overlay, corner and bar, and the functions of the map */
  constructor(map) {
    Object.assign(this, map, { selected: new Set(), corners: null, cross: null, pressed: new Map(), known: new Map(), found: -1, timers: [], ratio: 1 });
    this.lassoButton = button(t("map.lasso"), () => (this.lassoButton.ariaPressed = !this.isLasso()), { class: "small", "aria-pressed": "false", title: t("map.lasso.tip") });
    this.hoverBox = checkbox(state.settings.hover, (hover) => setSettings({ hover }));
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave", "wheel", "dblclick", "keydown"]) {
      this.overlay.addEventListener(name, (event) => this[name](event), { passive: false });
    }
    on("selected", () => this.overlay.isConnected && this.draw());
  }

  isLasso() {
    return this.lassoButton.ariaPressed === "true";
  }

  resize(width, height, ratio) {
    Object.assign(this.overlay, { width: width * ratio, height: height * ratio });
    Object.assign(this, { width, height, ratio });
  }

  leave() {
    this.timers.forEach(clearTimeout);
    fill(this.corner);
    this.found = -1;
  }

  draw() {
    const context = this.overlay.getContext("2d"), points = this.points();
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    if (!points || !this.view()?.scale) return;
    const { color } = getComputedStyle(this.overlay);
    Object.assign(context, { strokeStyle: color, lineWidth: 2 });
    const ring = (i, radius) => {
      const [x, y] = this.on(i);
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.stroke();
    };
    if (this.found >= 0 && this.found < points.count) ring(this.found, 7);
    const open = state.selected ? points.id.indexOf(state.selected.id) : -1;
    if (open >= 0) ring(open, 10);
    context.beginPath();
    if (this.cross && document.activeElement === this.overlay) {
      const [x, y] = this.cross;
      for (const [dx, dy] of [[12, 0], [0, 12]]) {
        context.moveTo(x - dx, y - dy);
        context.lineTo(x + dx, y + dy);
      }
    }
    (this.corners ?? []).forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x, y));
    if (this.corners) {
      context.closePath();
      context.setLineDash([6, 4]);
    }
    context.stroke();
    context.setLineDash([]);
  }

  placeOf({ clientX, clientY }) {
    const box = this.overlay.getBoundingClientRect();
    return [clientX - box.left, clientY - box.top];
  }

  idOf(i) {
    return this.points()?.id[i];
  }

  pointAt([px, py], reach = HIT) {
    if (!this.points() || !this.view()?.scale) return -1;
    const radius = reach / this.view().scale;
    return this.grid().nearest(...this.at(px, py), radius, radius, this.isShown);
  }

  pointerdown(event) {
    if (event.button) return;
    this.overlay.setPointerCapture(event.pointerId);
    this.pressed.set(event.pointerId, { from: this.placeOf(event), last: this.placeOf(event), isDrag: false });
    this.corners = this.pressed.size === 1 && (event.shiftKey || this.isLasso()) ? [this.placeOf(event)] : null;
  }

  pointermove(event) {
    const place = this.placeOf(event), press = this.pressed.get(event.pointerId);
    if (!press) return void this.hover(this.pointAt(place));
    const [dx, dy] = [place[0] - press.last[0], place[1] - press.last[1]];
    press.isDrag ||= Math.hypot(place[0] - press.from[0], place[1] - press.from[1]) > DRAG;
    if (!press.isDrag) return;
    if (this.pressed.size === 2) this.pinch(event.pointerId, place);
    else if (this.corners) this.corners.push(place);
    else this.pan(dx, dy);
    press.last = place;
    if (this.corners) this.draw();
  }

  pinch(id, place) {
    const [other] = [...this.pressed].filter(([one]) => one !== id).map(([, press]) => press.last), mine = this.pressed.get(id).last;
    const length = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
    this.zoom(length(place) / Math.max(1, length(mine)), (place[0] + other[0]) / 2, (place[1] + other[1]) / 2);
  }

  pointerup(event) {
    const press = this.pressed.get(event.pointerId);
    this.pressed.delete(event.pointerId);
    if (!press) return;
    if (this.corners && press.isDrag) this.close(event.altKey);
    else if (!press.isDrag) this.open(this.idOf(this.pointAt(press.from, event.pointerType === "touch" ? TOUCH_HIT : HIT)));
    this.corners = null;
    this.draw();
  }

  pointercancel(event) {
    this.pressed.delete(event.pointerId);
    this.corners = null;
  }

  pointerleave() {
    if (!this.pressed.size) this.hover(-1);
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(2 ** (-event.deltaY / (event.deltaMode ? 10 : 300)), ...this.placeOf(event));
  }

  dblclick(event) {
    this.zoom(2, ...this.placeOf(event));
  }

  keydown(event) {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const digit = event.shiftKey ? null : /^(?:Digit|Numpad)([1-9])$/.exec(event.code)?.[1];
    if (arrow) this.moveCross(arrow, event.shiftKey);
    else if (event.key === "Enter" && this.corners) this.finishRectangle(event.altKey);
    else if (event.key === "Enter") this.open();
    else if (event.key === " ") this.sound();
    else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 1.5 : 1 / 1.5, ...(this.cross ?? []));
    else if (digit && this.selected.size) this.labelDigit(Number(digit));
    else if (event.key === "Escape" && (this.corners || this.selected.size)) this.corners ? (this.corners = null) : this.clear();
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  /** Move the cross by 16 pixels; with Shift it draws a rectangle, which Enter selects. */
  moveCross([dx, dy], isShift) {
    const [x, y] = this.cross ?? [this.width / 2, this.height / 2];
    const to = [Math.max(0, Math.min(this.width, x + dx * STEP)), Math.max(0, Math.min(this.height, y + dy * STEP))];
    if (isShift) {
      this.start = this.corners ? this.start : [x, y];
      const [a, b] = this.start;
      this.corners = [[a, b], [to[0], b], to, [a, to[1]]];
    } else this.corners = null;
    this.cross = to;
    this.hover(this.pointAt(to, STEP));
  }

  finishRectangle(isLess) {
    this.close(isLess);
    this.corners = null;
  }

  /** Take what lies in the lasso into the selection, or out of it. */
  close(isLess) {
    if (this.corners.length > 2) this.choose(this.grid().inside(this.corners.map(([x, y]) => this.at(x, y))).filter(this.isShown), isLess);
  }

  choose(indexes, isLess = false) {
    const { id } = this.points();
    for (const i of indexes) this.selected[isLess ? "delete" : "add"](id[i]);
    this.showBar();
    this.chosen();
    say(t("map.selected", { n: this.selected.size }));
  }

  clear() {
    this.selected.clear();
    this.showBar();
    this.chosen();
  }

  /** Show a point after 80 ms, and let it sound after 250 ms, if that is wanted. */
  hover(found) {
    if (found === this.found) return;
    this.timers.forEach(clearTimeout);
    this.found = found;
    this.draw();
    if (found < 0) return;
    const id = this.idOf(found);
    this.timers = [setTimeout(() => this.showRow(id), HOVER_MS), setTimeout(() => state.settings.hover && this.sound(), SOUND_MS)];
  }

  async rowOf(id) {
    if (this.known.size > MAX_KNOWN) this.known.clear();
    if (!this.known.has(id)) this.known.set(id, rowOf(id).catch((error) => (this.known.delete(id), Promise.reject(error))));
    return this.known.get(id);
  }

  async showRow(id) {
    const row = await this.rowOf(id).catch(() => null);
    if (!row || this.idOf(this.found) !== id) return;
    const ask = () => this.go({ question: { ...noQuestion(), id } });
    const card = new Card(row, { play: () => this.sound(id), open: () => this.open(id), more: ask, less: ask });
    fill(this.corner, card.node);
    card.load();
    if (document.activeElement === this.overlay) say(`${row.label ?? ""} ${row.path}`);
  }

  async sound(id = this.idOf(this.found)) {
    const key = `map${id}`;
    if (id === undefined) return;
    if (state.playing?.key === key) return void stop();
    try {
      play(key, (await soundOf(await this.rowOf(id))).buffer);
    } catch (error) {
      if (error.name !== "AbortError") warn(messageOf(error));
    }
  }

  /** Keep a point in the inspector. */
  async open(id = this.idOf(this.found)) {
    if (id === undefined) return;
    const row = await this.rowOf(id).catch((error) => warn(messageOf(error)));
    if (!row) return;
    set({ selected: row });
    this.overlay.closest(".map").querySelector(".inspector")?.classList.add("open");
  }

  showBar() {
    const n = this.selected.size, reason = whyReadOnly() || (n > MAX_LABELLED ? t("map.label.many", { n: MAX_LABELLED }) : "");
    this.bar.hidden = n === 0;
    if (!n) return;
    const names = el("datalist", { id: "maplabels" }, valuesOf("label").map((value) => el("option", { value })));
    const field = nameField(t("map.label"), (value) => this.label(value), { list: "maplabels", disabled: Boolean(reason), title: reason });
    const where = () => `id IN (${[...this.selected].sort((a, b) => a - b).join(", ")})`;
    fill(this.bar, el("strong", t("rows", { n })), names, field,
      button(t("map.find"), () => this.go({ question: { ...state.question, where: where() } }), { class: "small", disabled: n > MAX_WHERE, title: n > MAX_WHERE ? t("map.find.many", { n: MAX_WHERE }) : "" }),
      button(t("screen.label"), () => (set({ selection: [...this.selected] }), this.go({ screen: "label", extra: { by: "selection" } })), "small"),
      button(t("export"), async () => (await import("./export.js")).openExport([...this.selected]), "small"),
      button(t("map.clear"), () => this.clear(), "small plain"), reason ? mutedWord(reason) : null);
  }

  labelDigit(digit) {
    const value = valuesOf("label")[digit - 1];
    if (value) this.label(value);
  }

  /** Give the selection a label, in one change that one undo takes back. */
  async label(value) {
    const ids = [...this.selected];
    try {
      const rows = [];
      for (let from = 0; from < ids.length; from += MAX_WHERE) {
        rows.push(...(await rowsOf(ids.slice(from, from + MAX_WHERE), { columns: "label" })));
      }
      giveLabel(rows, value);
      this.known.clear();
    } catch (error) {
      warn(messageOf(error));
    }
  }
}
