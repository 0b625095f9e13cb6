/* The question: drop a sound, choose a file, record, describe it; and the examples that it is made of. */

import { button, choice, el, errorBox, fill, fillChoice, icon, iconButton, nameOf, showText } from "./dom.js";
import { command } from "./keys.js";
import { withBase } from "./rows.js";
import { stop } from "./sound.js";
import { on, state } from "./state.js";
import { t } from "./words.js";

const WITH_TEXT = ["huggingface", "plugin"]; // families of models of which some know text
const ACCEPT = "audio/*,.wav,.flac,.ogg,.mp3,.m4a,.aif,.aiff,.opus,.wma,.au";

let part, chooseButton, dropWords, recordButton, lane, problem, meter, chooser, textField, viewList, because, callbacks, lanePart = null, asked = "";

/** `wanted` has ask (a new question), without, isAsked. */
export function makeQuery(wanted) {
	callbacks = wanted;
	chooser = el("input", { type: "file", accept: ACCEPT, hidden: true, "aria-label": t("choose"), change: () => take(chooser.files[0]) });
	textField = el("input.text", { type: "search", maxlength: 2000, enterkeyhint: "search", "aria-label": t("describe"), placeholder: t("describe"), keydown: askText });
	viewList = choice(t("view"), [], "", (view) => callbacks.ask({ ...state.question, view }));
	meter = el("meter", { max: 1, hidden: true, "aria-label": t("record.level") });
	recordButton = button([icon("mic"), el("span", t("record"))], record, "record");
	chooseButton = button([icon("file"), el("span", t("choose"))], () => (laneOf(), chooser.click()), "primary choose");
	lane = el("div.lane", { hidden: true });
	because = el("p.row.because", { hidden: true });
	problem = errorBox();
	const drop = el("div.drop", { click: () => chooseButton.click() }, icon("wave"), (dropWords = el("p", t("drop.here"))), el("small", t("drop.formats")));
	part = el("section.ask", { role: "search", "aria-label": t("ask") }, chooser,
		el("div.row.askbar", chooseButton, recordButton, meter, textField, viewList), drop, lane, because, problem);
	listenToDrops();
	command("ask", () => chooseButton.focus());
	on("collection model", showAbilities);
	return part;
}

function askText(event) {
	const text = textField.value.trim();
	if (event.key === "Enter" && text) callbacks.ask(withBase(state.question, { text }), { focus: true });
}

async function laneOf() {
	if (!lanePart) {
		lanePart = import("./lane.js");
		(await lanePart).bindLane(lane, { ask: callbacks.ask, problem: showProblem, shown: () => part.classList.add("asked") });
	}
	return lanePart;
}

const whyNoModel = () => (state.model?.recipe.extractor === "imported" ? t("model.imported") : "");

const whyNoMicrophone = () => whyNoModel() || (navigator.mediaDevices?.getUserMedia && globalThis.AudioWorkletNode ? "" : t("mic.insecure"));

function showAbilities() {
	const { collection, model, question } = state, views = collection?.views ?? [];
	const chosen = question.view || collection?.default_view;
	fillChoice(viewList, views.map(({ name }) => [name, name]), chosen);
	viewList.hidden = views.length < 2;
	const hasText = model !== null && WITH_TEXT.includes(model.recipe.extractor) && model.text !== false;
	chooseButton.disabled = Boolean(whyNoModel());
	dropWords.textContent = whyNoModel() || t("drop.here");
	textField.disabled = !hasText;
	textField.title = whyNoModel() || (hasText ? "" : t("text.none"));
	textField.placeholder = textField.title || t("describe");
	recordButton.title = whyNoMicrophone();
	recordButton.ariaDisabled = String(Boolean(recordButton.title));
}

function listenToDrops() {
	const isFile = (event) => event.dataTransfer?.types.includes("Files");
	document.addEventListener("dragover", (event) => {
		if (!isFile(event)) return;
		event.preventDefault();
		document.body.classList.add("dropping");
		laneOf(); // ahead
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

async function take(file, options) {
	showProblem(file ? whyNoModel() : "");
	if (!file || whyNoModel()) return;
	chooser.value = "";
	part.ariaBusy = "true";
	await (await laneOf()).takeFile(file, options);
	part.removeAttribute("aria-busy");
}

async function record() {
	const reason = whyNoMicrophone();
	showProblem(reason);
	if (reason) return;
	stop();
	const { toggleRecording } = await import("./record.js");
	toggleRecording(recordButton, meter, { done: (file) => take(file, { wait: true }), failed: showProblem });
}

export const showProblem = (text) => showText(problem, text);

export async function showQuestion(question, nameOfRow) {
	part.classList.toggle("asked", callbacks.isAsked(question));
	if (question.text !== asked) textField.value = asked = question.text; // what is typed stays
	viewList.value = question.view || state.collection?.default_view || "";
	showBecause(question, nameOfRow);
	if (question.clip) (await laneOf()).showClip(question.clip, question);
	else if (lanePart) (await laneOf()).hideSound();
}

/** Say what an answer is made of: "like 17, 204; unlike 9", each removable. */
function showBecause(question, nameOfRow) {
	const { id, like, unlike } = question;
	const chip = (row, list) => el("span.chip", nameOf(nameOfRow(row), 30),
		iconButton("close", t("remove", { what: nameOfRow(row) }), () => callbacks.without(row, list), "tiny"));
	const parts = [
		id !== null && [t("because.row"), chip(id, "id")],
		like.length && [t("because.like"), ...like.map((row) => chip(row, "like"))],
		unlike.length && [t("because.unlike"), ...unlike.map((row) => chip(row, "unlike"))],
	].filter(Boolean).flat();
	because.hidden = !parts.length;
	fill(because, ...parts.map((one) => (typeof one === "string" ? el("span", one) : one)));
}
