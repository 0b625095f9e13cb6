/* Requests: four at once with one place kept for sound, errors in one form, waiting as the server says, going on after it. */

import { set, state } from "./state.js";

const AT_ONCE = 4; // browsers give six connections to one server; the rest is for searches and events
const TRIES = 4;
const BACK_AFTER_S = [1, 2, 5, 10]; // until the server is asked again whether it is there
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

/** Return a path with the fields that are not null. */
export function withFields(address, fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return given.length ? `${address}?${new URLSearchParams(given)}` : address;
}

/** Send a request; wait and repeat it where the server is busy. Errors are ApiError, or AbortError after an abort. */
export async function send(address, { wait = true, ...options } = {}) {
  for (let attempt = 1; ; attempt++) {
    const answer = await fetchOnce(address, options);
    if (answer.ok) return answer;
    const error = await errorOf(answer);
    const isBusy = answer.status === 429 || (answer.status === 503 && error.code !== "collection_unavailable");
    if (answer.status === 401) set({ locked: true });
    if (!isBusy || !wait || attempt === TRIES) throw error;
    await pause(error.wait_s * 1000, options.signal);
  }
}

async function fetchOnce(address, options) {
  try {
    const answer = await fetch(address, { credentials: "same-origin", ...options });
    if (state.offline) set({ offline: false });
    return answer;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    lookForServer();
    throw new ApiError(0, { code: "offline" });
  }
}

async function errorOf(answer) {
  const body = await answer.json().catch(() => ({}));
  const wait_s = Math.min(MAX_WAIT_S, Number(answer.headers.get("Retry-After")) || 1);
  return new ApiError(answer.status, body.error ?? {}, wait_s);
}

export function pause(time, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, time);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

let isLooking = false;

async function lookForServer() {
  set({ offline: true });
  if (isLooking) return;
  isLooking = true;
  for (let attempt = 0; state.offline; attempt++) {
    await pause(1000 * BACK_AFTER_S[Math.min(attempt, BACK_AFTER_S.length - 1)]);
    const answer = await fetch("livez", { cache: "no-store" }).catch(() => null);
    if (answer?.ok) set({ offline: false });
  }
  isLooking = false;
}

export async function getJson(address, options) {
  return (await send(address, options)).json();
}

export async function post(address, value, options = {}) {
  const isForm = value instanceof FormData;
  const headers = isForm ? {} : { "Content-Type": "application/json" };
  const answer = await send(address, { method: "POST", headers, body: isForm ? value : JSON.stringify(value), ...options });
  return answer.status === 204 ? {} : answer.json();
}

/** Wait for a job that the server does in the background, and return what it has found. */
export async function doneJob(id, signal) {
  for (;;) {
    const job = await getJson(`v1/jobs/${id}`, { signal });
    if (job.state === "failed") throw new ApiError(0, job.error);
    if (job.state === "done") return job;
    await pause(LOOK_MS, signal);
  }
}

const queue = [];
const KINDS = ["sound", "large", "picture"];
const running = { sound: 0, large: 0, picture: 0 };

/** Get a "sound", a "large" picture or a "picture": at most four at once, small pictures at most three, in this order. */
export function fetchPart(kind, address, signal) {
  return new Promise((resolve, reject) => {
    const part = { kind, address, signal, resolve, reject };
    signal?.addEventListener("abort", () => {
      const place = queue.indexOf(part);
      if (place >= 0) queue.splice(place, 1);
      reject(signal.reason);
    });
    queue.push(part);
    startParts();
  });
}

function startParts() {
  while (running.sound + running.large + running.picture < AT_ONCE) {
    const isFree = (kind) => kind !== "picture" || running.picture < AT_ONCE - 1;
    const next = KINDS.filter(isFree).map((kind) => queue.findIndex((part) => part.kind === kind)).find((place) => place >= 0);
    if (next === undefined) return;
    const [part] = queue.splice(next, 1);
    running[part.kind]++;
    read(part).then(part.resolve, part.reject).finally(() => {
      running[part.kind]--;
      startParts();
    });
  }
}

async function read({ address, signal }) {
  const answer = await send(address, { signal });
  return { bytes: new Uint8Array(await answer.arrayBuffer()), headers: answer.headers };
}

/** A store of a bounded size; what was used longest ago goes first. */
export class Cache {
  constructor(limit) {
    this.limit = limit;
    this.size = 0;
    this.items = new Map();
  }

  get(key) {
    const item = this.items.get(key);
    if (!item) return undefined;
    this.items.delete(key);
    this.items.set(key, item);
    return item.value;
  }

  put(key, value, size) {
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
