/* The legend of the map: a colour for each value, and a list that hides, isolates and selects them. */

import { button, el, fill, mutedWord, nameOf, say } from "./dom.js";
import { paletteOf } from "./picture.js";
import { number, t } from "./words.js";

const LIGHT = ["#303CD8", "#B49000", "#900000", "#247848", "#C018B4", "#6090FC", "#3C306C", "#540018"];
const DARK = ["#00A8FC", "#FC300C", "#B4FCA8", "#FCB4F0", "#F0FC00", "#6C60FC", "#B448B4", "#D86054"];
const OTHER = ["#57606A", "#C9D1D9"], NONE = ["#B0B7BE", "#4A525B"]; // by theme: light, dark
const STEPS = 8; // commonest values, and steps of a number

/** Group rows by a column of the server: {groups: [{name, value}], codes}, the last two groups are other and none. */
export function grouped(column, values) {
  const codes = new Uint8Array(column.length);
  if (values.length || column instanceof Int16Array) {
    for (let i = 0; i < column.length; i++) codes[i] = column[i] < 0 ? STEPS + 1 : Math.min(STEPS, column[i]);
    return { codes, isNumber: false, groups: values.slice(0, STEPS).map((value) => ({ name: String(value) })) };
  }
  let low = Infinity, high = -Infinity;
  for (const value of column) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const step = (high - low) / STEPS || 1, digits = step < 0.1 ? 3 : step < 1 ? 2 : step < 10 ? 1 : 0;
  for (let i = 0; i < column.length; i++) codes[i] = column[i] >= low ? Math.min(STEPS - 1, Math.floor((column[i] - low) / step)) : STEPS + 1;
  const name = (k) => `${number(low + k * step, digits)} – ${number(low + (k + 1) * step, digits)}`;
  return { codes, isNumber: true, groups: low > high ? [] : Array.from({ length: high > low ? STEPS : 1 }, (_, k) => ({ name: name(k) })) };
}

const packed = (hex) => (255 << 24) | (parseInt(hex.slice(5), 16) << 16) | (parseInt(hex.slice(3, 5), 16) << 8) | parseInt(hex.slice(1, 3), 16);
const hexOf = (colour) => `#${[0, 8, 16].map((bits) => ((colour >> bits) & 255).toString(16).padStart(2, "0")).join("")}`;

export class Legend {
  /** @param {object} actions changed: after hiding; select: with the code of a group */
  constructor(node, actions) {
    Object.assign(this, { node, actions, hidden: new Set(), isDark: false, groups: [] });
  }

  /** Show groups with the number of their points in view. */
  show({ groups, isNumber }, counts, isDark) {
    if (groups !== this.groups) this.hidden.clear();
    const ramp = paletteOf("night"), theme = isDark ? 1 : 0;
    const step = (k) => ramp[Math.round((isDark ? 70 : 25) + (k * 165) / Math.max(1, groups.length - 1))];
    this.groups = groups;
    this.all = groups.map(({ name }, code) => ({ code, name, colour: isNumber ? step(code) : packed((isDark ? DARK : LIGHT)[code]) }));
    this.all.push({ code: STEPS, name: t("map.other"), colour: packed(OTHER[theme]) }, { code: STEPS + 1, name: t("none"), colour: packed(NONE[theme]) });
    this.counts = counts;
    const focused = this.node.contains(document.activeElement) ? document.activeElement.dataset.code : null;
    fill(this.node, this.all.filter(({ code }) => code < STEPS || counts.all[code]).map((one) => this.line(one)));
    if (focused) this.node.querySelector(`[data-code="${focused}"]`)?.focus();
  }

  line({ code, name, colour }) {
    const swatch = el("span.swatch");
    swatch.style.backgroundColor = hexOf(colour);
    const toggle = button([swatch, nameOf(name, 24), mutedWord(number(this.counts.view[code], 0))], (event) => event.detail < 2 && this.toggle(code, name),
      { class: "plain", "aria-pressed": String(!this.hidden.has(code)), title: t("map.legend.tip"), "data-code": code });
    toggle.addEventListener("dblclick", () => this.isolate(code));
    return el("li", toggle, button(t("map.select"), () => this.actions.select(code), { class: "small plain", "aria-label": `${t("map.select")}: ${name}` }));
  }

  toggle(code, name) {
    const isShown = this.hidden.delete(code) || !this.hidden.add(code);
    say(t(isShown ? "map.shown" : "map.hidden", { name }));
    this.actions.changed();
  }

  /** Show one value only; a second time all. */
  isolate(code) {
    const isAlone = this.all.every((one) => one.code === code || this.hidden.has(one.code));
    this.hidden = new Set(isAlone ? [] : this.all.map((one) => one.code).filter((one) => one !== code));
    this.actions.changed();
  }

  /** Return the colours of all shades: those of the groups, then those of points that a selection leaves out. 0 hides. */
  colours(ground) {
    const colours = new Uint32Array(32);
    for (const { code, colour } of this.all) {
      if (this.hidden.has(code)) continue;
      colours[code] = colour;
      colours[code + 16] = fade(colour, ground);
    }
    return colours;
  }
}

const fade = (colour, ground) => [0, 8, 16].reduce((sum, bits) => sum | ((((colour >> bits) & 255) * 0.25 + ((ground >> bits) & 255) * 0.75) << bits), 255 << 24);
