/* The screen Map: all rows in two dimensions, coloured; it moves, and what is pointed at or lassoed is in pick.js. */

import { formatAddress } from "./address.js";
import { path, send, withFields } from "./api.js";
import { readBlocks } from "./blocks.js";
import { button, choice, debounce, el, fill, fillChoice, iconButton, visible, warn } from "./dom.js";
import { Grid } from "./grid.js";
import { doneJob } from "./jobs.js";
import { Legend, grouped } from "./legend.js";
import { Picker } from "./pick.js";
import { Raster, placing } from "./raster.js";
import { on, state } from "./state.js";
import { messageOf, number, t } from "./words.js";

const MAX_POINTS = 200_000; // that are drawn; of more rows a fair sample is shown
const REST_MS = 120; // of the view, before discs are drawn
const BOX_MS = 250; // of the view, before the rows of what is in view are asked for
const TOLD_MS = 1000; // of the events, before the map is asked for again
const MAX_ZOOM = 400;
const MARGIN = 0.92; // of the window that all points fill

let parts, raster, legend, picker, panelOf, frame = 0, request = null, colouring = null;
let shown = { name: "", method: "pca", colour: "label" }; // what is loaded
let header = null, base = null, points = null, view = null, isFitted = true;
let colour = { groups: [], codes: new Uint8Array(0) }, shades = null, colours = null, ground = 0;

/** Make the screen and return its element. `inspector` gives the panel of the selected row. */
export function make(go, inspector) {
  panelOf = inspector;
  const method = choice(t("map.method"), [], "", (value) => change({ method: value }));
  const colours = choice(t("map.colour"), [], "", (value) => change({ colour: value }));
  const quick = el("canvas", { "aria-hidden": "true" }), fine = el("canvas", { "aria-hidden": "true" });
  const overlay = el("canvas.overlay", { tabindex: 0, role: "application", "aria-describedby": "mapnote" });
  const note = el("p.muted", { id: "mapnote", "aria-live": "polite" }), list = el("ul.legend", { "aria-label": t("map.legend") });
  const corner = el("div.corner"), bar = el("div.row.bar", { role: "group", "aria-label": t("map.selection"), hidden: true });
  parts = { method, colours, note, overlay, stage: el("div.stage", quick, fine, overlay, corner), side: el("div.side") };
  raster = new Raster(quick, fine);
  legend = new Legend(list, { changed: draw, select: (code) => picker.choose(pointsOf(code)) });
  picker = new Picker({ overlay, corner, bar, go, isShown: (i) => colours[shades[i]] !== 0, at: toMap, on: toScreen, zoom, pan, chosen: shadeAndDraw, points: () => points, view: () => view, grid: () => (points.grid ??= new Grid(points.x, points.y, points.count)) });
  parts.side.append(el("label", t("map.colour"), " ", colours), list, el("label", { title: t("map.hover.tip") }, picker.hoverBox, " ", t("map.hover")));
  const node = el("div.map",
    el("div.row.tools", el("label", t("map.method"), " ", method), picker.lassoButton, iconButton("plus", t("map.in"), () => zoom(2)), iconButton("minus", t("map.out"), () => zoom(0.5)),
      button(t("map.all"), fit, "small"), note),
    el("div.field", parts.stage, bar), parts.side);
  new ResizeObserver(resize).observe(parts.stage);
  const reload = debounce(() => node.isConnected && load(), TOLD_MS), recolour = debounce(() => node.isConnected && loadColour(), TOLD_MS);
  on("told", () => node.isConnected && ({ rows: reload, labels: recolour })[state.told.name]?.());
  on("settings", () => node.isConnected && view && shadeAndDraw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => node.isConnected && view && shadeAndDraw());
  return node;
}

export async function open({ extra }) {
  panelOf().then((panel) => parts.side.parentNode.append(panel));
  const { name, maps = ["pca"], columns, heads } = state.collection;
  const wanted = { name, method: maps.includes(extra.method) ? extra.method : "pca", colour: extra.colour || "label" };
  const own = heads.flatMap((head) => [[`head:${head.name}`, t("map.head", { head: visible(head.name) })], [`head:${head.name}:p`, t("map.proba", { head: visible(head.name) })]]);
  const options = [...columns.map((one) => [one.name, visible(one.name)]), ["flags", t("map.flags")], ...own, ...(examples().length ? [["score", t("map.score")]] : [])];
  fillChoice(parts.colours, options, wanted.colour);
  fillChoice(parts.method, maps.map((value) => [value, value.toUpperCase()]), wanted.method);
  if (shown.name !== name) picker.clear();
  const isSame = header && shown.name === name && shown.method === wanted.method;
  shown = { ...wanted, colour: options.some(([value]) => value === wanted.colour) ? wanted.colour : "label" };
  const box = extra.box?.split(",").map(Number);
  if (isSame) return void loadColour();
  isFitted = !(box?.length === 4 && box.every(Number.isFinite));
  view = isFitted ? null : { cx: (box[0] + box[2]) / 2, cy: (box[1] + box[3]) / 2, box };
  await load();
}

export function leave() {
  request?.abort();
  picker.leave();
}

function change(fields) {
  shown = { ...shown, ...fields };
  keep();
  if (fields.method) {
    isFitted = true;
    load();
  } else loadColour();
}

const examples = () => [state.question.id, ...state.question.like].filter(Number.isInteger);

function keep() {
  if (state.screen !== "map") return;
  const box = isFitted ? "" : boxInView().map((value) => value.toPrecision(5)).join(",");
  history.replaceState(null, "", formatAddress({ name: shown.name, screen: "map", question: state.question, extra: { method: shown.method === "pca" ? "" : shown.method, colour: shown.colour, box } }));
}

const fetchBlocks = (address, told, options) => send(address, { headers: { Accept: "application/x-exc1" }, ...options }).then(async (answer) => (answer.status === 202 ? answer.json() : readBlocks(answer, told)));

/** Get the points; the first ones are drawn at once. A map that is made in the background is waited for. */
async function load() {
  request?.abort();
  const { signal } = (request = new AbortController()), { name, method } = shown;
  try {
    for (;;) {
      const found = await fetchBlocks(withFields(path("/map", name), { method, limit: MAX_POINTS }), (head, rows) => method === shown.method && take(head, rows), { signal });
      if (!found.job) break;
      fill(parts.note, el("progress", { "aria-label": t("map.making") }), " ", t("map.making"));
      await doneJob(found.job, signal);
    }
    await loadColour();
  } catch (error) {
    if (error.name === "AbortError") return;
    const text = method === "pca" ? messageOf(error) : `${t("map.failed")} ${messageOf(error)}`;
    fill(parts.note, el("span.error", text), " ", button(t("again"), load, "small"));
    warn(text);
    if (method !== "pca") parts.method.value = shown.method = "pca"; // what is shown
  }
}

function take(head, rows) {
  const isLast = rows === head.header.rows;
  if (header && !isLast && rows > 8192) return; // the first block, then all
  header = head.header;
  const { id, x, y, place } = head.columns;
  base = points = { id, x, y, place, count: rows, grid: null };
  if (isFitted || !view) fitTo(rows);
  else if (view.box) view = { ...view, scale: Math.min(raster.width / (view.box[2] - view.box[0]), raster.height / (view.box[3] - view.box[1])) };
  showNote();
  shadeAndDraw();
}

function showNote() {
  const sum = header.explained[0] + header.explained[1];
  const words = shown.method === "pca" ? t("map.pca", { share: number(100 * sum, 0) }) : t("map.umap");
  const sample = points !== base ? t("map.part", { n: points.count, all: points.within }) : header.rows < header.all ? t("map.sample", { n: header.rows, all: header.all }) : t("rows", { n: header.all });
  parts.note.textContent = `${sample}. ${words}`;
  parts.overlay.ariaLabel = t("map.canvas");
}

async function loadColour() {
  colouring?.abort();
  const { signal } = (colouring = new AbortController());
  try {
    const like = examples(), options = { signal, ...(shown.colour === "score" ? { method: "POST", body: JSON.stringify({ like, unlike: state.question.unlike }), headers: { "Content-Type": "application/json" } } : {}) };
    const found = await fetchBlocks(path(shown.colour === "score" ? "/scores" : `/columns/${encodeURIComponent(shown.colour)}`, shown.name), undefined, options);
    colour = grouped(found.columns.value, found.header.values ?? []);
    if (header && found.header.order !== header.order) return void load(); // rows have come meanwhile
  } catch (error) {
    if (error.name === "AbortError") return;
    warn(messageOf(error));
    colour = { groups: [], codes: new Uint8Array(0) };
  }
  shadeAndDraw();
}

function pointsOf(code) {
  return Array.from({ length: points.count }, (_, i) => i).filter((i) => (shades[i] & 15) === code);
}

/** Set the shade of every point: its group, and whether a selection leaves it out. */
function shadeAndDraw() {
  if (!points) return;
  const { id, place, count } = points, { codes } = colour, { selected } = picker, none = 9;
  shades = new Uint8Array(count);
  for (let i = 0; i < count; i++) shades[i] = (codes[place ? place[i] : i] ?? none) + (selected.size && !selected.has(id[i]) ? 16 : 0);
  showLegend(Array.from({ length: count }, (_, i) => i));
  draw();
}

function showLegend(inView) {
  const counts = { view: new Array(10).fill(0), all: new Array(10).fill(0) };
  for (const i of inView) counts.view[shades[i] & 15]++;
  for (let i = 0; i < points.count; i++) counts.all[shades[i] & 15]++;
  const [r, g, b] = getComputedStyle(parts.stage).backgroundColor.match(/\d+/g).map(Number);
  ground = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  legend.show(colour, counts, g < 128);
}

/** Draw coarsely with the next frame, and finely at rest. */
function draw() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    if (!points || !view?.scale || !raster.width) return;
    colours = legend.colours(ground);
    raster.draw({ ...points, shades }, view, colours, ground);
    picker.draw();
    rest();
  });
}

const rest = debounce(() => points && parts.stage.isConnected && raster.refine({ ...points, shades }, view, colours, ground, (inView) => {
  showLegend(inView);
  keep();
  if (header.rows < header.all) fetchBox();
}), REST_MS);

/** Of more rows than are drawn, get those that lie in view. */
const fetchBox = debounce(async () => {
  const box = boxInView().join(",");
  if (isFitted) {
    if (points !== base) points = base;
    else return;
  } else if (points.box === box) return;
  else {
    const { columns: { id, x, y, place }, header: { within, rows } } = await fetchBlocks(withFields(path("/map", shown.name), { method: shown.method, box, limit: MAX_POINTS }), undefined, { signal: request.signal }).catch(() => ({ columns: {}, header: {} }));
    if (!id) return;
    points = { id, x, y, place, count: rows, within, box, grid: null };
  }
  showNote();
  shadeAndDraw();
}, BOX_MS);

function resize() {
  const { clientWidth, clientHeight } = parts.stage;
  if (!clientWidth || !clientHeight) return;
  raster.resize(clientWidth, clientHeight, devicePixelRatio);
  picker.resize(clientWidth, clientHeight, devicePixelRatio);
  if (isFitted && base) fitTo(base.count);
  draw();
}

function fit() {
  isFitted = true;
  fitTo(base.count);
  draw();
}

function fitTo(count) {
  const grid = new Grid(base.x, base.y, count);
  const scale = MARGIN * Math.min(raster.width / (grid.right - grid.left || 1), raster.height / (grid.top - grid.bottom || 1));
  view = { scale, least: scale, cx: (grid.left + grid.right) / 2, cy: (grid.bottom + grid.top) / 2 };
}

const toMap = (px, py) => {
  const { scaleX, scaleY, left, top } = placing(view ?? { scale: 1, cx: 0, cy: 0 }, raster.width, raster.height);
  return [(px - left) / scaleX, (py - top) / scaleY];
};
function boxInView() {
  const [x0, y1] = toMap(0, 0), [x1, y0] = toMap(raster.width, raster.height);
  return [x0, y0, x1, y1];
}

const toScreen = (i) => {
  const { scaleX, scaleY, left, top } = placing(view, raster.width, raster.height);
  return [points.x[i] * scaleX + left, points.y[i] * scaleY + top];
};

function zoom(factor, px = raster.width / 2, py = raster.height / 2) {
  if (!view) return;
  const least = view.least ?? view.scale / 8, scale = Math.max(least, Math.min(least * MAX_ZOOM, view.scale * factor));
  const [x, y] = toMap(px, py);
  view = { scale, least, cx: x + (view.cx - x) * (view.scale / scale), cy: y + (view.cy - y) * (view.scale / scale) };
  isFitted = false;
  draw();
}

function pan(dx, dy) {
  if (!view) return;
  view = { ...view, cx: view.cx - dx / view.scale, cy: view.cy + dy / view.scale };
  isFitted = false;
  draw();
}
