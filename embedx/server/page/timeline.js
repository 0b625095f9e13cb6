/* The timeline: a recording from its begin to its end, its rows, and which of them are hits. */

import { getJson, path } from "./api.js";
import { canvas, el, fill, muted } from "./dom.js";
import { showRecording } from "./recording.js";
import { state } from "./state.js";
import { clock, t } from "./words.js";

const HEIGHT = 28; // pixels of the strip
const MAX_KEPT = 20; // recordings whose rows are kept

const kept = new Map();

async function recordingOf(row) {
  if (row.recording === undefined || row.recording === null) return null;
  const address = path(`/recordings/${encodeURIComponent(row.recording)}`);
  if (!kept.has(address)) {
    kept.set(address, getJson(address).catch(() => (kept.delete(address), null)));
    if (kept.size > MAX_KEPT) kept.delete(kept.keys().next().value);
  }
  return kept.get(address);
}

/** Fill an element with the timeline of the recording of a row; `open` is called with the row that is chosen. */
export async function showTimeline(node, row, open) {
  const facts = await recordingOf(row);
  const known = state.hits.filter((hit) => hit.path === row.path);
  const rows = facts?.rows ?? known.map((hit) => ({ ...hit, channel: null }));
  const end = facts?.duration_s ?? Math.max(row.end_s, ...rows.map((one) => one.end_s));
  if (!node.isConnected) return;
  if (rows.length < 2) return void fill(node, muted(t("timeline.only", { end: clock(end) })));
  const hits = new Set(state.hits.map((hit) => hit.id));
  const strip = canvas({ height: HEIGHT });
  const slider = el("div.strip", {
    role: "slider", tabindex: 0, "aria-label": t("timeline"), "aria-valuemin": 1, "aria-valuemax": rows.length,
    keydown: step, click: jump,
  }, strip);
  let place = Math.max(0, rows.findIndex((one) => one.id === row.id));
  tell();
  fill(node, facts?.duration_s ? showRecording(row, facts) : null, slider, el("div.scale", el("span", clock(0)), el("span", clock(end))));
  new ResizeObserver(draw).observe(slider);

  function tell() {
    const one = rows[place];
    slider.ariaValueNow = place + 1;
    slider.ariaValueText = t("timeline.row", { n: place + 1, all: rows.length, at: clock(one.start_s), label: one.label ?? "" });
  }

  function draw() {
    const width = Math.round(slider.clientWidth * devicePixelRatio), height = HEIGHT * devicePixelRatio;
    strip.width = width;
    strip.height = height;
    const context = strip.getContext("2d");
    const colour = (name) => {
      strip.style.color = `var(${name})`;
      return getComputedStyle(strip).color;
    };
    for (const one of rows) {
      const isHit = hits.has(one.id), left = (one.start_s / end) * width;
      context.fillStyle = colour(one.id === rows[place].id ? "--text" : isHit ? "--accent" : "--control");
      const top = one.id === rows[place].id ? 0 : isHit ? 0.2 : 0.6;
      context.fillRect(left, top * height, Math.max(2, ((one.end_s - one.start_s) / end) * width - 1), (1 - top) * height);
    }
  }

  function step(event) {
    const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (event.key === "Enter") return void open(rows[place].id);
    if (to === undefined || event.shiftKey || event.altKey || event.ctrlKey) return;
    event.preventDefault();
    event.stopPropagation();
    place = Math.max(0, Math.min(rows.length - 1, to));
    tell();
    draw();
  }

  function jump(event) {
    const box = slider.getBoundingClientRect(), at = ((event.clientX - box.left) / box.width) * end;
    const distance = (one) => Math.max(one.start_s - at, at - one.end_s, 0);
    place = rows.reduce((best, one, index) => (distance(one) < distance(rows[best]) ? index : best), 0);
    tell();
    draw();
    open(rows[place].id);
  }
}
