/* The large picture of a row: axes, crosshair, band, the stretch in its context, and the player under it. */

import { isGone } from "./card.js";
import { addStyles, button, canvas, debounce, el, fill, followPointer, iconButton, say, showAt, showPlays, showText } from "./dom.js";
import { command } from "./keys.js";
import { describe, isSilent, paint } from "./picture.js";
import { levelsKey, pictureOf, rangeOf, soundOf } from "./rows.js";
import { frequencyOf, placeOf, ticksOf } from "./scale.js";
import { nextSpeed, play, stop, watch } from "./sound.js";
import { on, setSettings, state } from "./state.js";
import { addWords, clock, messageOf, number, t } from "./words.js";

await Promise.all([addWords("large"), addStyles("large")]);

const SIZE = { width: 1000, height: 256 };
const WIDER_S = 5;
const MAX_CONTEXT_S = 30;
const DRAG = 8; // pixels, from which a press is a drag

let parts, row = null, context = 0, isOwn = false, isListening = false, picture = null, band = null, isBandOn = false, request = null;

export function bindPlayer() {
  if (isListening) return;
  isListening = true;
  on("settings", debounce(refresh, 30));
  on("playing", showPlaying);
  watch((playing, at) => playing.key === keyOf() && showHead(at));
  command("wider", widen);
  command("band", toggleBand);
  command("loop", () => toggle("loop"));
  command("chain", () => toggle("chain"));
  command("slower", () => setSpeed(-1));
  command("faster", () => setSpeed(1));
  command("brighter", () => setSettings({ contrast: state.settings.contrast + 1 }));
  command("darker", () => setSettings({ contrast: state.settings.contrast - 1 }));
}

const keyOf = () => (row ? `large${row.id}` : "");
const isPlaying = () => state.playing?.key === keyOf();

/** Return the elements that show a row with seconds around it, and ask for its picture; with `own` only its stretch plays. */
export function showLarge(next, { around = 0, own = false } = {}) {
  row = next;
  context = around;
  isOwn = own;
  band = picture = null;
  isBandOn = false;
  told = -1;
  const nodes = build();
  refreshPlayer();
  loadPicture();
  return nodes;
}

export const fetchPicture = (next, around, signal) => pictureOf(next, { ...SIZE, context: around }, signal).catch(() => null);
export const fetchSound = (next, around) => soundOf(next, around).catch(() => null);

export const focusPlayer = () => parts.play.focus();

function build() {
  parts = {
    canvas: canvas(),
    picture: el("div.picture", { role: "img", "aria-label": t("picture.none") }),
    axis: el("div.axis", { "aria-hidden": "true" }),
    times: el("div.scale", { "aria-hidden": "true" }),
    head: el("div.playhead", { hidden: true }),
    stretch: el("div.marked", { hidden: true }),
    limit: el("div.limit", { hidden: true }),
    cross: el("p.cross", { "aria-hidden": "true" }),
    band: el("div.band", { hidden: true }),
    note: el("p.note", { hidden: true }),
    player: el("div.slider", { role: "slider", tabindex: 0, "aria-label": t("player"), "aria-valuemin": 0, "aria-valuenow": 0, "aria-valuemax": Math.ceil(row.end_s - row.start_s), keydown: seekByKey, click: seek }),
    play: iconButton("play", t("play"), togglePlay, "main"),
    loop: iconButton("loop", t("loop"), () => toggle("loop")),
    speed: button("", () => setSpeed(1), { class: "small", title: t("speed") }),
    wider: button(t("wider"), widen, "small"),
    bandButton: button(t("band"), toggleBand, { class: "small", "aria-pressed": false }),
    pitch: button(t("pitch"), () => toggle("pitch"), { class: "small", title: t("pitch.tip") }),
    level: button(t("level"), () => toggle("level"), { class: "small", title: t("level.tip") }),
  };
  parts.picture.append(parts.canvas, parts.stretch, parts.limit, parts.band, parts.note, parts.head);
  parts.picture.addEventListener("pointermove", showCross);
  parts.picture.addEventListener("pointerleave", () => (parts.cross.textContent = ""));
  parts.picture.addEventListener("pointerdown", startDrag);
  const { play: main, loop, speed, pitch, wider, bandButton, level, cross } = parts;
  return [
    el("div.large", parts.axis, parts.picture, parts.times, parts.player),
    el("div.row.player", main, loop, speed, pitch, wider, bandButton, level, cross),
  ];
}

function span() {
  const start = picture?.start_s ?? Math.max(0, row.start_s - context), end = picture?.end_s ?? row.end_s + context;
  return { start, end, length: end - start };
}

async function loadPicture() {
  request?.abort();
  request = new AbortController();
  const mine = row;
  parts.picture.classList.add("loading");
  try {
    const loaded = await pictureOf(row, { ...SIZE, context }, request.signal);
    if (mine !== row) return;
    picture = { ...loaded, range: rangeOf(loaded.rate) };
    paintPicture();
  } catch (error) {
    if (error.name !== "AbortError" && mine === row) note(isGone(error) ? messageOf(error) : t("picture.failed"));
  } finally {
    if (mine === row) parts.picture.classList.remove("loading");
  }
}

function note(text) {
  parts.note.textContent = text;
  parts.note.hidden = !text;
}

function paintPicture() {
  paint(parts.canvas, picture, state.settings);
  note(isSilent(picture) ? t("silence") : "");
  const { start, length } = span();
  parts.picture.ariaLabel = describe(picture, length, picture.range);
  fill(parts.axis, ...ticksOf(picture.range).map((hz) => {
    const tick = el("span", number(hz / 1000, 2));
    tick.style.insetBlockEnd = `${100 * placeOf(hz, picture.range)}%`;
    return tick;
  }), el("span.unit", "kHz"));
  fill(parts.times, ...[0, 0.25, 0.5, 0.75, 1].map((share) => el("span", clock(start + share * length, length < 20 ? 1 : 0))));
  showAt(parts.stretch, context ? (row.start_s - start) / length : null);
  parts.stretch.style.inlineSize = `${(100 * (row.end_s - row.start_s)) / length}%`;
  const hears = (state.model?.sample_rate ?? 0) / 2;
  parts.limit.hidden = !(hears && hears < picture.range.fmax * 0.98 && hears > picture.range.fmin);
  if (!parts.limit.hidden) parts.limit.style.insetBlockEnd = `${100 * placeOf(hears, picture.range)}%`;
  parts.limit.title = t("limit", { khz: number(hears / 1000, 1) });
  showBand();
}

function showCross(event) {
  if (!picture) return;
  const { time, hz } = placeIn(event);
  parts.cross.textContent = `${clock(time, 2)}  ${number(hz / 1000, 2)} kHz`;
}

function placeIn(event) {
  const box = parts.picture.getBoundingClientRect(), { start, length } = span();
  const share = (value) => Math.max(0, Math.min(1, value));
  return {
    time: start + share((event.clientX - box.left) / box.width) * length,
    hz: frequencyOf(1 - share((event.clientY - box.top) / box.height), picture.range),
  };
}

/** A click plays from there; a drag up or down chooses a band. */
function startDrag(event) {
  if (!picture) return;
  const from = placeIn(event), top = event.clientY;
  const isDrag = (now) => Math.abs(now.clientY - top) >= DRAG;
  followPointer(parts.picture, event, (now) => {
    if (!isDrag(now)) return;
    band = [from.hz, placeIn(now).hz].sort((a, b) => a - b);
    isBandOn = true;
    showBand();
  }, (now) => {
    if (!isDrag(now)) start(from.time);
    else if (isPlaying()) start();
  });
}

function showBand() {
  parts.bandButton.ariaPressed = isBandOn;
  parts.band.hidden = !isBandOn;
  if (!isBandOn || !picture) return;
  const [low, high] = band.map((hz) => 100 * Math.max(0, Math.min(1, placeOf(hz, picture.range))));
  parts.band.style.insetBlockEnd = `${low}%`;
  parts.band.style.blockSize = `${high - low}%`;
  parts.bandButton.title = bandWords();
}

const bandWords = () => t("band.of", { low: number(band[0], 0), high: number(band[1], 0) });

function toggleBand() {
  if (!row || !picture) return;
  band ??= [Math.max(300, picture.range.fmin), Math.min(8000, picture.range.fmax)];
  isBandOn = !isBandOn;
  showBand();
  say(isBandOn ? bandWords() : t("band.off"));
  if (isPlaying()) start();
}

export function togglePlay() {
  if (isPlaying()) stop();
  else if (row) start();
}

/** Play the row with its context, from a time of the recording. */
export async function start(time = null) {
  const mine = row;
  try {
    const sound = await soundOf(row, context);
    if (mine !== row) return;
    const own = isOwn && time === null ? { from: row.start_s - sound.start_s, to: row.end_s - sound.start_s } : {};
    const at = time === null ? {} : { at: Math.max(0, time - sound.start_s) };
    play(keyOf(), sound.buffer, { ...own, ...at, band: isBandOn ? band : null });
  } catch (error) {
    if (error.name === "AbortError" || mine !== row) return;
    showText(parts.note, messageOf(error));
  }
}

function showHead(at) {
  const { length } = span();
  showAt(parts.head, Math.min(1, at / length));
  tellTime(at);
}

let told = -1;

/** Tell the slider's value, at most once a second. */
function tellTime(at) {
  const whole = Math.floor(at), { length } = span();
  parts.player.style.setProperty("--done", `${(100 * at) / length}%`);
  if (whole === told) return;
  told = whole;
  parts.player.ariaValueNow = whole;
  parts.player.ariaValueMax = Math.ceil(length);
  parts.player.ariaValueText = t("player.at", { at: clock(at), of: clock(length) });
}

function showPlaying() {
  if (!parts) return;
  const isMine = isPlaying();
  showPlays(parts.play, isMine);
  if (!isMine) parts.head.hidden = true;
}

function seek(event) {
  const box = parts.player.getBoundingClientRect(), { start: first, length } = span();
  start(first + ((event.clientX - box.left) / box.width) * length);
}

function seekByKey(event) {
  const step = event.altKey ? 0.1 : 1;
  const direction = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const at = Number(parts.player.getAttribute("aria-valuenow")) || 0;
  if (event.key === " " || event.key === "Enter") togglePlay();
  else if (direction) start(span().start + Math.max(0, at + direction * step));
  else if (event.key === "Home") start(span().start);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function widen() {
  if (!row) return;
  context = context + WIDER_S > MAX_CONTEXT_S ? 0 : context + WIDER_S;
  [isOwn, picture] = [false, null];
  parts.wider.textContent = context ? t("wider.by", { s: context }) : t("wider");
  say(parts.wider.textContent);
  loadPicture();
  if (isPlaying()) start(row.start_s);
}

function setSpeed(direction) {
  const last = nextSpeed(state.settings.speed, direction);
  setSettings({ speed: last === state.settings.speed && direction > 0 ? 0.1 : last });
  say(t("speed.is", { x: number(state.settings.speed, 2) }));
}

function toggle(name) {
  setSettings({ [name]: !state.settings[name] });
  say(t(state.settings[name] ? "on" : "off", { what: t(name) }));
}

let levels = "";

function refresh() {
  if (!row) return;
  refreshPlayer();
  const now = levelsKey();
  if (levels && now !== levels) loadPicture();
  else if (picture) paintPicture();
  levels = now;
}

function refreshPlayer() {
  parts.speed.textContent = `${number(state.settings.speed, 2)}×`;
  for (const name of ["loop", "level", "pitch"]) parts[name].ariaPressed = state.settings[name];
  parts.pitch.hidden = state.settings.speed === 1;
}
