/* Requests: four at once, one place kept for sound; errors in one form; waiting for the server. */

import { set, state } from "./state.js";

const AT_ONCE = 4; // of six that browsers give one server
const TRIES = 4;
const BACK_AFTER_S = [1, 2, 5, 10]; // until the server is looked for again
const MAX_WAIT_S = 20;
const LOOK_MS = 500; // between two questions whether a job is done

/** An answer that is an error, or no answer at all (status 0). */
export class ApiError extends Error {
	constructor(status, facts = {}, wait_s = 0) {
		super(facts.message || `HTTP ${status}`);
		Object.assign(this, { status, code: facts.code || "", hint: facts.hint || "", facts, wait_s });
	}
}

export function path(rest = "", name = state.collection?.name ?? "") {
	return `v1/collections/${encodeURIComponent(name)}${rest}`;
}

export function withFields(address, fields) {
	const given = Object.entries(fields).filter(([, value]) => (value ?? "") !== "");
	return given.length ? `${address}?${new URLSearchParams(given)}` : address;
}

/** Send a request, again where the server is busy. Errors are ApiError, or AbortError after an abort. */
export async function send(address, { wait = true, ...options } = {}) {
	for (let attempt = 1; ; attempt++) {
		const answer = await fetchOnce(address, options);
		if (answer.ok) return answer;
		const { error: facts = {} } = await answer.json().catch(() => ({})), { status } = answer;
		const wait_s = Math.min(MAX_WAIT_S, Number(answer.headers.get("Retry-After")) || 1);
		const isBusy = status === 429 || (status === 503 && facts.code !== "collection_unavailable");
		if (status === 401) set({ locked: true });
		if (!isBusy || !wait || attempt === TRIES) throw new ApiError(status, facts, wait_s);
		await pause(wait_s * 1000, options.signal);
	}
}

async function fetchOnce(address, options) {
	try {
		const answer = await fetch(address, options);
		set({ offline: false });
		return answer;
	} catch (error) {
		if (error.name === "AbortError") throw error;
		lookForServer();
		throw new ApiError(0, { code: "offline" });
	}
}

export function pause(time, signal) {
	return new Promise((resolve, reject) => {
		const timer = setTimeout(resolve, time);
		signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)));
	});
}

let isLooking = false;

export async function lookForServer() {
	set({ offline: true });
	if (isLooking) return;
	isLooking = true;
	for (let attempt = 0; state.offline; attempt++) {
		await pause(1000 * (BACK_AFTER_S[attempt] ?? BACK_AFTER_S.at(-1)));
		const answer = await fetch("livez", { cache: "no-store" }).catch(() => null);
		if (answer?.ok) set({ offline: false });
	}
	isLooking = false;
}

export async function getJson(address, options) {
	return (await send(address, options)).json();
}

export async function post(address, value, options = {}) {
	const content = value instanceof FormData ? { body: value } : { body: JSON.stringify(value), headers: { "Content-Type": "application/json" } };
	const answer = await send(address, { method: "POST", ...content, ...options });
	return answer.status === 204 ? {} : answer.json();
}

export async function doneJob(id, signal) {
	for (;;) {
		const job = await getJson(`v1/jobs/${id}`, { signal });
		if (job.state === "failed") throw new ApiError(0, job.error);
		if (job.state === "done") return job;
		await pause(LOOK_MS, signal);
	}
}

const queue = [], running = new Set();
const RANKS = { sound: 0, large: 1, picture: 2 };

/** Get a "sound", a "large" picture or a "picture", in this order; at most three are small pictures. */
export function fetchPart(kind, address, signal) {
	return new Promise((resolve, reject) => {
		const part = { kind, address, signal, resolve, reject };
		signal?.addEventListener("abort", () => {
			if (queue.includes(part)) queue.splice(queue.indexOf(part), 1);
			reject(signal.reason);
		});
		queue.push(part);
		startParts();
	});
}

function startParts() {
	while (running.size < AT_ONCE) {
		const pictures = [...running].filter(({ kind }) => kind === "picture").length;
		const [part] = queue.filter(({ kind }) => kind !== "picture" || pictures < AT_ONCE - 1).sort((one, other) => RANKS[one.kind] - RANKS[other.kind]);
		if (!part) return;
		queue.splice(queue.indexOf(part), 1);
		running.add(part);
		read(part).then(part.resolve, part.reject).finally(() => (running.delete(part), startParts()));
	}
}

async function read({ address, signal }) {
	const answer = await send(address, { signal });
	return { bytes: new Uint8Array(await answer.arrayBuffer()), headers: answer.headers };
}

/** Return a function that gives up what was asked before, and returns the signal for what is asked now. */
export function latest() {
	let request = null;
	return () => {
		request?.abort();
		request = new AbortController();
		return request.signal;
	};
}

/** A store of a bounded size; what was used longest ago goes first. */
export class Cache {
	items = new Map();
	size = 0;

	constructor(limit) {
		this.limit = limit;
	}

	get(key) {
		const item = this.items.get(key);
		return item && this.put(key, item.value, item.size);
	}

	put(key, value, size = 1) {
		this.drop(key);
		this.items.set(key, { value, size });
		this.size += size;
		for (const old of this.items.keys()) {
			if (this.size <= this.limit || old === key) break;
			this.drop(old);
		}
		return value;
	}

	drop(key) {
		this.size -= this.items.get(key)?.size ?? 0;
		this.items.delete(key);
	}
}
