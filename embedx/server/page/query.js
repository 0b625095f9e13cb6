/* The question: drop a sound, choose a file, record, describe it; then its picture with a stretch that can be moved. */

import { el, button, fill, icon, iconButton, nameOf, say, warn } from "./dom.js";
import { FileError, clipOf, fetchClip, firstStretch, keepOnServer, problemOf, readFile, redraw } from "./clips.js";
import { command } from "./keys.js";
import { paint, paintWave } from "./picture.js";
import { startRecording, whyNoMicrophone } from "./record.js";
import { withBase } from "./search.js";
import { play, stop, watch } from "./sound.js";
import { Stretch } from "./stretch.js";
import { on, state } from "./state.js";
import { clock, messageOf, t } from "./words.js";

const ACCEPT = "audio/*,.wav,.flac,.ogg,.mp3,.m4a,.aif,.aiff,.opus,.wma,.au";
const QUERY_KEY = "query";

let part, bar, lane, problem, meter, chooser, textField, viewList, because, callbacks, recorder = null, stretch = null, shownClip = null;

/** Make the part and return its element. `wanted` has ask (a new question) and refine (the same with other examples). */
export function makeQuery(wanted) {
  callbacks = wanted;
  chooser = el("input", { type: "file", accept: ACCEPT, hidden: true, "aria-label": t("choose"), on: { change: () => take(chooser.files[0]) } });
  textField = el("input", { type: "search", class: "text", maxlength: 2000, enterkeyhint: "search", "aria-label": t("describe"), placeholder: t("describe"),
    on: { keydown: (event) => event.key === "Enter" && textField.value.trim() && callbacks.ask(withBase(state.question, { text: textField.value.trim() })) } });
  viewList = el("select", { class: "view", "aria-label": t("view"), on: { change: () => callbacks.ask({ ...state.question, view: viewList.value }) } });
  meter = el("meter", { max: 1, hidden: true, "aria-label": t("record.level") });
  bar = el("div", { class: "askbar" },
    button([icon("file"), el("span", {}, t("choose"))], () => chooser.click(), { class: "primary choose" }),
    button([icon("mic"), el("span", {}, t("record"))], toggleRecording, { class: "record" }), meter, textField, viewList);
  lane = el("div", { class: "lane", hidden: true });
  because = el("p", { class: "because", hidden: true });
  problem = el("p", { class: "error", hidden: true });
  const drop = el("p", { class: "drop" }, icon("wave"), el("span", {}, t("drop.here")), el("small", {}, t("drop.formats")));
  part = el("section", { class: "ask", role: "search", "aria-label": t("ask") }, chooser, bar, drop, lane, because, problem);
  listenToDrops();
  command("ask", () => bar.querySelector("button").focus());
  on("collection model", showAbilities);
  watch((playing, at) => playing.key === QUERY_KEY && stretch?.showHead(at));
  on("playing", () => state.playing?.key !== QUERY_KEY && stretch?.showHead(null));
  on("settings", repaint);
  return part;
}

/** Disable what this collection's model cannot do, and say why. */
function showAbilities() {
  const views = state.collection?.views ?? [];
  fill(viewList, views.map((view) => el("option", { value: view.name, selected: view.name === (state.question.view || state.collection.default_view) }, view.name)));
  viewList.hidden = views.length < 2;
  const canText = state.model?.text ?? (state.model ? null : false);
  textField.disabled = canText === false;
  textField.title = canText === false ? t("text.none") : "";
  if (canText === false) textField.placeholder = t("text.none");
  const microphone = whyNoMicrophone();
  const recordButton = bar.querySelector(".record");
  recordButton.title = microphone;
  recordButton.setAttribute("aria-disabled", microphone ? "true" : "false");
}

function listenToDrops() {
  const isFile = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!isFile(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!isFile(event)) return;
    event.preventDefault();
    const [item] = event.dataTransfer.items;
    if (item?.webkitGetAsEntry?.()?.isDirectory) return showProblem(t("err.folder", { name: event.dataTransfer.files[0].name }));
    take(event.dataTransfer.files[0]);
  });
}

/** Show a sound at once, and ask what is like it. */
export async function take(file) {
  if (!file) return;
  showProblem("");
  chooser.value = "";
  callbacks.leave();
  part.setAttribute("aria-busy", "true");
  try {
    const clip = await readFile(file);
    const wrong = clip.buffer ? problemOf(clip) : "";
    if (clip.buffer) showClip(clip, firstStretch(clip));
    if (wrong) return showProblem(wrong);
    await keepOnServer(clip);
    callbacks.ask(withBase(state.question, { clip: clip.name, ...firstStretch(clip) }), { focus: true });
  } catch (error) {
    if (error.name !== "AbortError") showProblem(error instanceof FileError ? error.message : messageOf(error, file.name));
  } finally {
    part.removeAttribute("aria-busy");
  }
}

/** Show what is wrong with the sound; an empty text takes it away. */
export function showProblem(text) {
  problem.hidden = !text;
  problem.textContent = text;
  if (text) warn(text);
}

/** Show a question: its sound or its text, and the examples it is made of. */
export async function showQuestion(question, nameOfRow) {
  part.classList.toggle("asked", callbacks.isAsked(question));
  textField.value = question.text;
  viewList.value = question.view || state.collection?.default_view || "";
  showBecause(question, nameOfRow);
  const clip = question.clip ? clipOf(question.clip) ?? await recover(question.clip) : null;
  if (clip) showClip(clip, question);
  else hideClip();
}

async function recover(name) {
  try {
    return await fetchClip(name);
  } catch (error) {
    if (state.question.clip === name) showProblem(error.status === 404 || error.status === 410 ? t("query.expired") : messageOf(error));
    return null;
  }
}

/** Say what an answer is made of: "like 17, 204; unlike 9", each removable. */
function showBecause(question, nameOfRow) {
  const { id, like, unlike } = question;
  const chip = (row, list) => el("span", { class: "chip" }, nameOf(nameOfRow(row), 30),
    iconButton("close", t("remove", { what: nameOfRow(row) }), () => callbacks.without(row, list), { class: "tiny" }));
  const parts = [
    id !== null && [t("because.row"), chip(id, "id")],
    like.length && [t("because.like"), ...like.map((row) => chip(row, "like"))],
    unlike.length && [t("because.unlike"), ...unlike.map((row) => chip(row, "unlike"))],
  ].filter(Boolean).flat();
  because.hidden = !parts.length;
  fill(because, ...parts.map((one) => (typeof one === "string" ? el("span", {}, one) : one)));
}

function hideClip() {
  lane.hidden = true;
  fill(lane);
  stretch = shownClip = null;
}

/** Show a sound with its stretch. */
function showClip(clip, { start_s, end_s }) {
  if (shownClip === clip && stretch) return stretch.set(start_s ?? 0, end_s ?? clip.duration_s);
  shownClip = clip;
  lane.hidden = false;
  const canvas = el("canvas", { "aria-hidden": "true", width: 1, height: 1 });
  const wave = el("canvas", { class: "wave", "aria-hidden": "true", width: 1, height: 32 });
  stretch = new Stretch(clip.duration_s, [start_s ?? 0, end_s ?? clip.duration_s], moveStretch);
  fill(lane,
    el("div", { class: "laneline" },
      iconButton("play", t("query.play"), playQuery),
      nameOf(clip.title, 60), el("span", { class: "muted" }, clock(clip.duration_s, 1)), stretch.fields,
      iconButton("close", t("query.remove"), () => callbacks.ask(withBase(state.question, {})))),
    el("div", { class: "pictures" }, wave, canvas, stretch.node));
  paintClip();
  part.classList.add("asked");
}

function paintClip() {
  const [wave, canvas] = lane.querySelectorAll("canvas");
  if (shownClip.picture) paint(canvas, shownClip.picture, state.settings);
  if (shownClip.peaks) paintWave(wave, shownClip.peaks);
}

let painted = "";

async function repaint() {
  const { scale, fmin, fmax, window_ms } = state.settings, now = [scale, fmin, fmax, window_ms].join();
  const isSame = painted === now || !painted;
  painted = now;
  if (!shownClip) return;
  if (!isSame) await redraw(shownClip);
  paintClip();
}

function moveStretch(start_s, end_s) {
  const isWhole = start_s <= 0 && end_s >= shownClip.duration_s;
  callbacks.ask({ ...state.question, start_s: isWhole ? null : start_s, end_s: isWhole ? null : end_s }, { replace: true });
}

function playQuery() {
  if (state.playing?.key === QUERY_KEY) return void stop();
  if (!shownClip?.buffer) return showProblem(t("query.silent"));
  play(QUERY_KEY, shownClip.buffer, { from: stretch.start, to: stretch.end });
}

async function toggleRecording() {
  const recordButton = bar.querySelector(".record");
  if (recorder) return finishRecording();
  showProblem("");
  stop();
  try {
    recorder = await startRecording((level, time) => {
      meter.value = level;
      recordButton.lastChild.textContent = t("record.stop", { s: clock(time) });
    }, (error) => finishRecording(error));
    meter.hidden = false;
    recordButton.setAttribute("aria-pressed", "true");
    fill(recordButton, icon("stop"), el("span", {}, t("record.stop", { s: clock(0) })));
    say(t("record.on"));
  } catch (error) {
    showProblem(error.message);
  }
}

/** End the recording and show it; nothing is sent before the button "search". */
async function finishRecording(error = null) {
  if (!recorder) return;
  const file = recorder.stop();
  recorder = null;
  meter.hidden = true;
  const recordButton = bar.querySelector(".record");
  recordButton.removeAttribute("aria-pressed");
  fill(recordButton, icon("mic"), el("span", {}, t("record")));
  if (error) return showProblem(error.message);
  const clip = await readFile(file).catch((wrong) => showProblem(wrong.message));
  if (!clip?.buffer) return;
  showClip(clip, firstStretch(clip));
  const search = button(t("record.search"), () => take(file), { class: "primary" });
  lane.querySelector(".laneline").append(search);
  search.focus();
}
