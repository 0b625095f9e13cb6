/* Hits: a feed of cards with one tab stop, arrows inside, endless, and pictures only for what is near the view. */

import { Card } from "./card.js";
import { button, el, errorBox, fill, focusOn, warn } from "./dom.js";
import { command } from "./keys.js";
import { levelsKey, soundOf } from "./rows.js";
import { on, set, state } from "./state.js";
import { play, stop, watch } from "./sound.js";
import { messageOf, t } from "./words.js";

const NEAR = "600px"; // beyond the view: pictures are asked for before they are seen
const AHEAD = 3; // sounds after the one that plays
const SLOW_MS = 2000; // after which waiting is explained
const SHIMMERS = 12; // boxes while loading

const ACTIONS = {
  play: toggle,
  open: openCard,
  more: (card) => callbacks.refine(card.hit, "like"),
  less: (card) => callbacks.refine(card.hit, "unlike"),
};

let feed, list, cards = [], current = 0, seen, end, callbacks, slow;

/** Make the part and return its element. `wanted` has open, refine, more, cancel, whyNone. */
export function makeHits(wanted) {
  callbacks = wanted;
  list = el("div.cards", { role: "feed", "aria-label": t("hits"), "aria-busy": "false", keydown: move });
  end = el("div.row.tail");
  feed = el("section.hits", { "aria-label": t("hits") }, list, end);
  seen = new IntersectionObserver(look, { rootMargin: NEAR, scrollMargin: NEAR });
  seen.observe(end);
  watch((playing, at) => cardOf(playing.key)?.showHead((at - playing.from) / (playing.to - playing.from)));
  on("playing", showPlaying);
  on("settings", repaint);
  for (const name of Object.keys(ACTIONS)) command(name, (event) => onCard(name, event));
  return feed;
}

let painted = "";

/** Paint anew after settings have changed: colours here, levels by the server. */
function repaint() {
  const { colours, contrast, fixed } = state.settings, levels = levelsKey(), looks = [levels, colours, contrast, fixed].join();
  if (looks === painted) return;
  const isSame = painted.startsWith(levels);
  painted = looks;
  for (const card of cards) {
    if (isSame) card.paint();
    else if (card.isNear) {
      card.unload();
      card.load();
    }
  }
}

function look(entries) {
  for (const entry of entries) {
    if (entry.target === end) {
      if (entry.isIntersecting && cards.length) callbacks.more();
      continue;
    }
    const card = cards[entry.target.dataset.index];
    if (card?.node !== entry.target) continue;
    card.isNear = entry.isIntersecting;
    if (card.isNear) card.load();
    else card.unload();
  }
}

const cardOf = (key) => cards.find((card) => keyOf(card) === key);
const keyOf = (card) => `row${card.hit.id}`;

/** Show boxes of the final size while an answer is awaited; after 2 s words and a button to cancel. */
export function showLoading({ keep = false } = {}) {
  list.ariaBusy = "true";
  clearTimeout(slow);
  slow = setTimeout(() => {
    const words = state.model && !state.model.loaded ? t("loading.model") : t("loading.slow");
    fill(end, el("p", words), button(t("cancel"), callbacks.cancel));
  }, SLOW_MS);
  if (!keep) {
    clear();
    fill(list, Array.from({ length: SHIMMERS }, () => el("div.card.waiting", { "aria-hidden": "true" })));
  }
}

function clear() {
  for (const card of cards) card.unload();
  seen.disconnect();
  seen.observe(end);
  cards = [];
}

export function showHits(hits, { focus = false } = {}) {
  stopLoading();
  clear();
  fill(list);
  current = 0;
  append(hits);
  fill(end, hits.length ? null : callbacks.whyNone());
  if (focus && cards.length) choose(0);
}

export function appendHits(hits) {
  stopLoading();
  const known = new Set(cards.map((card) => card.hit.id));
  append(hits.filter((hit) => !known.has(hit.id)));
  fill(end);
}

function append(hits) {
  for (const hit of hits) {
    const card = new Card(hit, ACTIONS);
    card.node.dataset.index = cards.length;
    cards.push(card);
    list.append(card.node);
    seen.observe(card.node);
  }
  cards.forEach((card, index) => {
    card.node.ariaPosInSet = index + 1;
    card.node.ariaSetSize = cards.length;
  });
  if (cards.length) cards[current].node.tabIndex = 0;
}

export function showError(error, again) {
  stopLoading();
  const text = messageOf(error);
  fill(end, errorBox(text), again && button(t("again"), again));
  if (!cards.length) fill(list);
  warn(text);
}

function stopLoading() {
  clearTimeout(slow);
  list.ariaBusy = "false";
}

export function showLabelOf(id, label) {
  for (const card of cards) {
    if (card.hit.id !== id) continue;
    card.hit.label = label;
    card.showLabel();
  }
}

const columns = () => {
  const top = cards[0]?.node.offsetTop;
  const below = cards.findIndex((card) => card.node.offsetTop > top);
  return below < 0 ? cards.length : below;
};

function move(event) {
  if (event.target.closest(".card") === null || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
  const isMirrored = getComputedStyle(list).direction === "rtl";
  const steps = { ArrowRight: isMirrored ? -1 : 1, ArrowLeft: isMirrored ? 1 : -1, ArrowDown: columns(), ArrowUp: -columns() };
  const last = cards.length - 1;
  const to = { Home: 0, End: last }[event.key] ?? current + (steps[event.key] ?? NaN);
  if (Number.isNaN(to)) return;
  event.preventDefault();
  choose(Math.max(0, Math.min(last, to)));
  if (to > last) callbacks.more();
}

/** Make a card the current one: focus, and the inspector follows. */
export function choose(index) {
  if (!cards[index]) return;
  cards[current]?.node.setAttribute("tabindex", "-1");
  for (const node of cards[current]?.node.querySelectorAll("button") ?? []) node.tabIndex = -1;
  current = index;
  const { node, hit } = cards[index];
  node.tabIndex = 0;
  for (const one of node.querySelectorAll("button")) one.tabIndex = 0;
  focusOn(node);
  set({ selected: hit });
}

export function chooseRow(id) {
  const index = cards.findIndex((card) => card.hit.id === id);
  if (index >= 0) choose(index);
  return index >= 0;
}

function onCard(name, event) {
  const focused = event.target.closest?.(".card");
  const card = focused ? cards[focused.dataset.index] : cards[current];
  if (!card || (event.target !== document.body && !event.target.closest?.(".hits, .inspector"))) {
    if (name !== "play" || !card) return false;
  }
  ACTIONS[name](card);
}

function select(card) {
  const index = cards.indexOf(card);
  if (index >= 0 && (index !== current || state.selected?.id !== card.hit.id)) choose(index);
}

function openCard(card) {
  select(card);
  callbacks.open(card.hit);
}

async function toggle(card) {
  const isMine = state.playing?.key === keyOf(card);
  select(card);
  if (isMine) return void stop();
  await playCard(card);
}

async function playCard(card) {
  try {
    const { buffer } = await soundOf(card.hit);
    play(keyOf(card), buffer, { ended: () => playNext(card) });
    prefetch(card);
  } catch (error) {
    if (error.name === "AbortError") return;
    const text = messageOf(error);
    card.explain(text);
    warn(text);
  }
}

/** With "one after the other", play the card that follows. */
function playNext(card) {
  const next = cards[cards.indexOf(card) + 1];
  if (!state.settings.chain || !next) return;
  choose(cards.indexOf(next));
  playCard(next);
}

function prefetch(card) {
  const first = cards.indexOf(card) + 1;
  for (const next of cards.slice(first, first + AHEAD)) soundOf(next.hit).catch(() => null);
}

let shown = null;

function showPlaying() {
  const card = state.playing ? cardOf(state.playing.key) : null;
  if (shown && shown !== card) shown.showPlaying(false);
  card?.showPlaying(true);
  shown = card;
}
