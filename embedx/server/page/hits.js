/* Hits: a feed of cards with one tab stop, and pictures only for what is near the view. */

import { Card } from "./card.js";
import { button, el, errorBox, fill, focusOn, warn } from "./dom.js";
import { commands } from "./keys.js";
import { PAINTED_BY } from "./picture.js";
import { DRAWN_BY, soundOf } from "./rows.js";
import { clamp } from "./scale.js";
import { follow, isPlaying, play, stop, watch } from "./sound.js";
import { on, set, state } from "./state.js";
import { messageOf, t } from "./words.js";

const NEAR = "600px"; // beyond the view: pictures are asked for before they are seen
const AHEAD = 3; // sounds after the one that plays
const SLOW_MS = 2000; // after which waiting is explained
const SHIMMERS = 12;

const ACTIONS = {
	play: toggle,
	open: (card) => (select(card), callbacks.open(card.hit)),
	more: (card) => callbacks.refine(card.hit, "like"),
	less: (card) => callbacks.refine(card.hit, "unlike"),
};

let list, cards = [], current = 0, seen, end, callbacks, slow, playing = null;

/** `wanted` has open, refine, more, cancel, whyNone. */
export function makeHits(wanted) {
	callbacks = wanted;
	list = el("div.cards", { role: "feed", "aria-label": t("hits"), "aria-busy": "false", keydown: move });
	end = el("div.row.tail");
	seen = new IntersectionObserver((entries) => entries.forEach(look), { rootMargin: NEAR, scrollMargin: NEAR });
	seen.observe(end);
	watch(({ key, from, to }, at) => cardOf(key)?.showHead((at - from) / (to - from)));
	on("playing", showPlaying);
	on("edited", showLabels);
	on(PAINTED_BY, () => cards.forEach(({ picture }) => picture.paint()));
	on(DRAWN_BY, () => cards.forEach((card) => card.isNear && card.load()));
	commands(Object.fromEntries(Object.keys(ACTIONS).map((name) => [name, (event) => onCard(name, event)])));
	return el("section.hits", { "aria-label": t("hits") }, list, end);
}

function look({ target, isIntersecting }) {
	if (target === end) return void (isIntersecting && cards.length && callbacks.more());
	const card = cards[target.dataset.index];
	if (card?.node !== target) return;
	card.isNear = isIntersecting;
	if (isIntersecting) card.load();
	else card.picture.unload();
}

const cardOf = (key) => cards.find((card) => keyOf(card) === key);
const keyOf = (card) => `row${card.hit.id}`;

/** Show boxes of the final size; after 2 s words and a button to cancel. */
export function showLoading() {
	list.ariaBusy = "true";
	clearTimeout(slow);
	slow = setTimeout(() => {
		const words = state.model && !state.model.loaded ? t("loading.model") : t("loading.slow");
		fill(end, el("p", words), button(t("cancel"), callbacks.cancel));
	}, SLOW_MS);
	if (state.hits.length) return; // they stay until others are there
	clear();
	fill(list, Array.from({ length: SHIMMERS }, () => el("div.card.waiting", { "aria-hidden": "true" })));
}

export function stopLoading() {
	clearTimeout(slow);
	list.ariaBusy = "false";
}

function clear() {
	for (const { picture } of cards) picture.unload();
	seen.disconnect();
	seen.observe(end);
	cards = [];
	fill(list);
}

export function showHits(hits, { focus = false } = {}) {
	stopLoading();
	clear();
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
	cards.forEach(({ node }, index) => Object.assign(node, { ariaPosInSet: index + 1, ariaSetSize: cards.length }));
	if (cards.length) cards[current].node.tabIndex = 0;
}

export function showError(error, again) {
	stopLoading();
	fill(end, errorBox(messageOf(error)), again && button(t("again"), again));
	if (!cards.length) fill(list);
}

function showLabels() {
	for (const { id, column, value } of state.edited) {
		const card = cardOf(`row${id}`);
		if (!card || column !== "label") continue;
		card.hit.label = value;
		card.showLabel();
	}
}

function columns() {
	const below = cards.findIndex(({ node }) => node.offsetTop > cards[0].node.offsetTop);
	return below < 0 ? cards.length : below;
}

function move(event) {
	if (event.target.closest(".card") === null || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
	const last = cards.length - 1, step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(), ArrowUp: -columns() }[event.key];
	const to = step ? current + step : { Home: 0, End: last }[event.key];
	if (to === undefined) return;
	event.preventDefault();
	choose(clamp(to, 0, last));
	if (to > last) callbacks.more();
}

function setTabStops({ node }, tabIndex) {
	for (const one of [node, ...node.querySelectorAll("button")]) one.tabIndex = tabIndex;
}

/** Focus a card, if there is one; the inspector follows. */
export function choose(index) {
	if (!cards[index]) return;
	if (cards[current]) setTabStops(cards[current], -1);
	current = index;
	setTabStops(cards[index], 0);
	focusOn(cards[index].node);
	set({ selected: cards[index].hit });
}

export function chooseRow(id) {
	const index = cards.findIndex((card) => card.hit.id === id);
	choose(index);
	return index >= 0;
}

/** Act on the card with the focus, else on the current one; from beside the cards only for "play". */
function onCard(name, event) {
	const { target } = event, focused = target.closest?.(".card"), card = cards[focused ? focused.dataset.index : current];
	const isNear = target === document.body || target.closest?.(".hits, .inspector");
	if (!card || (!isNear && name !== "play")) return false;
	ACTIONS[name](card);
}

function select(card) {
	const index = cards.indexOf(card);
	if (index !== current || state.selected?.id !== card.hit.id) choose(index);
}

function toggle(card) {
	const isMine = isPlaying(keyOf(card));
	select(card);
	if (isMine) stop();
	else playCard(card);
}

async function playCard(card) {
	try {
		play(keyOf(card), (await soundOf(card.hit)).buffer, { ended: () => playNext(card) });
		getAhead(card);
	} catch (error) {
		card.picture.explain(messageOf(error));
		warn(messageOf(error));
	}
}

/** Get the sounds that follow; with "one after the other" the first of them begins without a gap. */
function getAhead(card) {
	const at = cards.indexOf(card) + 1, [next] = cards.slice(at);
	const [first] = cards.slice(at, at + AHEAD).map(({ hit }) => soundOf(hit).catch(() => null));
	const begun = () => (choose(cards.indexOf(next)), getAhead(next));
	if (next && state.settings.chain) first.then((sound) => sound && follow(keyOf(card), keyOf(next), sound.buffer, { begun, ended: () => playNext(next) }));
}

function playNext(card) {
	const next = cards[cards.indexOf(card) + 1];
	if (!state.settings.chain || !next) return;
	choose(cards.indexOf(next));
	playCard(next);
}

function showPlaying() {
	const card = state.playing ? cardOf(state.playing.key) : null;
	if (playing && playing !== card) playing.showPlaying(false);
	card?.showPlaying(true);
	playing = card;
}
