/* Events: what changes in the collection. One tab holds the stream, and tells the others of this browser. */

import { getJson, lookForServer, path, pause, withFields } from "./api.js";
import { say } from "./dom.js";
import { heldRows, on, set, state } from "./state.js";
import { isWaiting, showEdits, valueOf } from "./undo.js";
import { t } from "./words.js";

const NAMES = ["labels", "rows", "extract", "job", "state"];
const ASK_MS = 5000; // between two questions without locks, and after a stream that was refused
const BACK_MS = 500; // between two looks whether the server is back
const MAX_ROWS = 200; // that are asked for again when it is not known which have changed

let followed = "", end = null;

/** Follow the collection that is shown: `state.told` is the last event, {name, facts}. */
export function followEvents() {
	on("collection", follow);
	follow();
}

function follow() {
	const name = state.collection?.name ?? "";
	if (name === followed) return;
	followed = name;
	end?.abort();
	if (!name) return;
	end = new AbortController();
	if (navigator.locks && window.BroadcastChannel) share(name, end.signal);
	else ask(end.signal);
}

/** Hold the stream, or hear the tab that holds it. */
function share(name, signal) {
	const key = `embedx ${location.pathname} ${name}`, channel = new BroadcastChannel(key);
	channel.onmessage = ({ data }) => hear(data);
	signal.addEventListener("abort", () => channel.close());
	const hold = () => new Promise((resolve) => {
		signal.addEventListener("abort", resolve);
		listen(signal, (event) => (channel.postMessage(event), hear(event)));
	});
	navigator.locks.request(key, { signal }, hold).catch(() => null);
}

function listen(signal, tell) {
	const { generation, revision } = state.collection;
	const stream = new EventSource(withFields(path("/events"), { after: `${generation}.${revision}` }));
	for (const name of NAMES) stream.addEventListener(name, ({ data }) => tell({ name, facts: JSON.parse(data) }));
	const again = () => signal.aborted || (state.offline ? setTimeout(again, BACK_MS) : listen(signal, tell));
	let isOpen = false; // a stream ends by itself after a while, and the browser begins the next one at once
	stream.addEventListener("open", () => (isOpen = true));
	stream.addEventListener("error", () => {
		const isRefused = stream.readyState === EventSource.CLOSED;
		if (isOpen && !isRefused) return void (isOpen = false);
		stream.close();
		if (!isRefused) lookForServer();
		setTimeout(again, ASK_MS);
	});
	signal.addEventListener("abort", () => stream.close());
}

async function ask(signal) {
	while (!signal.aborted) {
		await pause(ASK_MS);
		if (document.hidden || state.offline || signal.aborted) continue;
		const now = await getJson(path()).catch(() => state.collection), { revision, generation } = state.collection;
		if (now.name !== followed) continue;
		if (now.revision !== revision) hear({ name: "labels", facts: { revision: now.revision, by: null, ids: [] } });
		if (now.generation !== generation) hear({ name: "rows", facts: now });
	}
}

function hear({ name, facts }) {
	if (name === "labels") {
		state.collection.revision = facts.revision;
		showLabels(facts);
	}
	if (name === "rows") set({ collection: { ...state.collection, rows: facts.rows, generation: facts.generation } });
	set({ told: { name, facts } });
}

async function showLabels({ ids, by }) {
	const shown = new Map(heldRows().map((row) => [row.id, row]));
	const wanted = (ids.length ? ids.filter((id) => shown.has(id)) : [...shown.keys()]).slice(0, MAX_ROWS);
	if (!wanted.length) return;
	const { name } = state.collection, { rows, revision } = await getJson(withFields(path("/rows"), { ids: wanted }));
	if (name !== state.collection?.name || revision < state.sent) return; // of my own later edit another event tells
	const edits = rows.flatMap((now) => {
		const row = shown.get(now.id), columns = new Set(["label", ...Object.keys({ ...now.meta, ...row.meta })]);
		const isOther = (column) => String(valueOf(row, column) ?? "") !== String(valueOf(now, column) ?? "");
		return [...columns].filter((column) => isOther(column) && !isWaiting(now.id, column))
			.map((column) => ({ id: now.id, column, value: valueOf(now, column), by: by ?? t("somebody") }));
	});
	if (!edits.length) return;
	showEdits(edits);
	say(t("label.other.by", { by: edits[0].by, label: edits[0].value ?? t("label.none") }));
}
