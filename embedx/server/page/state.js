/* The state of the page: one object, and listeners that are told which fields have changed. */

const SETTINGS_KEY = "embedx.settings";
const DEFAULTS = {
	colours: "night",
	scale: "mel",
	window_ms: 0, // 6, 23, 46, 93; 0: 46, or 6 for ultrasound
	fmin: 0, // Hz; 0: 50, or 0 on a linear scale
	fmax: 0, // Hz; 0: half the sample rate
	contrast: 0, // steps of 3 dB
	fixed: false,
	volume: 1,
	level: false,
	loop: false,
	speed: 1,
	pitch: false,
	chain: false, // play the next by itself
	hover: false, // play what is pointed at on the map
	keys: true,
	ownKeys: {}, // command: key
	language: "", // "": that of the browser
	theme: "", // "": that of the system
	name: "",
	blind: false, // label without what the head thinks
};

export const state = {
	shown: { name: "", screen: "" }, // no screen while there is only a message
	wanted: null, // what is gone to: {name, screen, question, row, extra, focus}
	screen: "find",
	collections: [], // as the server lists them
	collection: null, // the facts of the one that is shown
	counted: true, // or a promise, until the values of its columns are there
	model: null, // its recipe, and whether it is loaded
	question: noQuestion(),
	clips: new Map(), // name: a sound that was dropped or recorded
	hits: [],
	queue: [],
	selected: null, // the row in the inspector
	playing: null, // {key, from, to} of sound.js
	offline: false,
	locked: false, // whether the server asks for a token
	waiting: 0, // labels that the server does not have yet
	sent: 0, // the revision after my last edit
	settings: loadSettings(),
};

export function noQuestion() {
	return {
		id: null, clip: null, text: "", like: [], unlike: [], start_s: null, end_s: null,
		where: "", view: "", group: "", diverse: false,
	};
}

/** Return the rows that the screens hold, some more than once. */
export const heldRows = () => [...state.hits, ...state.queue, state.selected].filter(Boolean);

const listeners = new Map();

export function on(names, listener) {
	for (const name of names.split(" ")) listeners.set(name, [...(listeners.get(name) ?? []), listener]);
}

/** Change fields of the state and tell the listeners, each once. */
export const set = (changes) => change(state, changes);

/** Change settings; listeners are told of them as well. */
export function setSettings(changes) {
	change(state.settings, changes);
	store(SETTINGS_KEY, state.settings);
}

function change(fields, changes) {
	const told = new Set();
	for (const [name, value] of Object.entries(changes)) {
		if (Object.is(fields[name], value)) continue;
		fields[name] = value;
		for (const listener of listeners.get(name) ?? []) told.add(listener);
	}
	for (const listener of told) listener();
}

function loadSettings() {
	const known = Object.entries(recall(SETTINGS_KEY) ?? {}).filter(([name, value]) => typeof value === typeof DEFAULTS[name]);
	return { ...DEFAULTS, ...Object.fromEntries(known) };
}

/** Return what `action` gets from a storage, null where storage is switched off. */
function withStorage(action, kind = "localStorage") {
	try {
		return action(window[kind]);
	} catch {
		return null;
	}
}

export function recall(name, kind) {
	return withStorage((kept) => JSON.parse(kept.getItem(name)), kind);
}

export const store = (name, value, kind) => withStorage((kept) => kept.setItem(name, JSON.stringify(value)), kind);

export const forget = (name) => withStorage((kept) => kept.removeItem(name));

export const recallAll = (start) => withStorage((kept) => Object.keys(kept).filter((name) => name.startsWith(start)).map((name) => recall(name))) ?? [];
