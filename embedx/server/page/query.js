/* The question: drop a sound, choose a file, record, describe it; and the examples it is made of. */

import { ask } from "./address.js";
import { button, choice, el, errorBox, fill, fillChoice, icon, iconButton, nameOf, showText } from "./dom.js";
import { commands } from "./keys.js";
import { isAsked, withBase } from "./rows.js";
import { stop } from "./sound.js";
import { on, state } from "./state.js";
import { t } from "./words.js";

const WITH_TEXT = ["huggingface", "plugin"]; // families of models of which some know text
const ACCEPT = "audio/*,.wav,.flac,.ogg,.mp3,.m4a,.aif,.aiff,.opus,.wma,.au";

let part, chooseButton, dropWords, recordButton, lane, problem, meter, chooser, textField, viewList, because, removeExample, asked = "";

export function makeQuery(without) {
	removeExample = without;
	chooser = el("input", { type: "file", accept: ACCEPT, hidden: true, "aria-label": t("choose"), change: () => take(chooser.files[0]) });
	textField = el("input.text", { type: "search", maxlength: 2000, enterkeyhint: "search", "aria-label": t("describe"), keydown: askText });
	viewList = choice(t("view"), [], "", (view) => ask({ view }));
	meter = el("meter", { max: 1, hidden: true, "aria-label": t("record.level") });
	recordButton = button([icon("mic"), el("span", t("record"))], record, "record");
	chooseButton = button([icon("file"), el("span", t("choose"))], () => (laneOf(), chooser.click()), "primary choose");
	lane = el("div.lane", { hidden: true });
	because = el("p.row.because", { hidden: true });
	problem = errorBox();
	dropWords = el("p");
	part = el("section.ask", { role: "search", "aria-label": t("ask") }, chooser,
		el("div.row.askbar", chooseButton, recordButton, meter, textField, viewList),
		el("div.drop", { click: () => chooseButton.click() }, icon("wave"), dropWords, el("small", t("drop.formats"))),
		lane, because, problem);
	listenToDrops();
	commands({ ask: () => chooseButton.focus() });
	on("collection model", showAbilities);
	return part;
}

function askText(event) {
	const text = textField.value.trim();
	if (event.key === "Enter" && text) ask(withBase({ text }), { focus: true });
}

async function laneOf() {
	const part = await import("./lane.js");
	part.bindLane(lane);
	return part;
}

const whyNoModel = () => (state.model?.recipe.extractor === "imported" ? t("model.imported") : "");

const whyNoMicrophone = () => whyNoModel() || (navigator.mediaDevices?.getUserMedia && globalThis.AudioWorkletNode ? "" : t("mic.insecure"));

function showAbilities() {
	const { collection, model, question } = state, views = collection?.views ?? [], why = whyNoModel();
	fillChoice(viewList, views.map(({ name }) => [name, name]), question.view || collection?.default_view);
	viewList.hidden = views.length < 2;
	const hasText = model !== null && WITH_TEXT.includes(model.recipe.extractor) && model.text !== false;
	chooseButton.disabled = Boolean(why);
	dropWords.textContent = why || t("drop.here");
	textField.disabled = !hasText;
	textField.title = why || (hasText ? "" : t("text.none"));
	textField.placeholder = textField.title || t("describe");
	recordButton.title = whyNoMicrophone();
	recordButton.ariaDisabled = recordButton.title !== "";
}

function listenToDrops() {
	const mark = (isOver) => document.body.classList.toggle("dropping", isOver), isFile = (event) => event.dataTransfer?.types.includes("Files");
	document.addEventListener("dragover", (event) => {
		if (!isFile(event)) return;
		event.preventDefault();
		mark(true);
		laneOf(); // ahead
	});
	document.addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false));
	document.addEventListener("drop", (event) => {
		mark(false);
		if (!isFile(event)) return;
		event.preventDefault();
		const { items: [item], files: [file] } = event.dataTransfer;
		if (item?.webkitGetAsEntry?.()?.isDirectory) showProblem(t("err.folder", { name: file.name }));
		else take(file);
	});
}

async function take(file, options) {
	showProblem(file ? whyNoModel() : "");
	if (!file || whyNoModel()) return;
	chooser.value = "";
	part.ariaBusy = "true";
	await (await laneOf()).takeFile(file, options);
	part.ariaBusy = null;
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

export const showAsked = (is) => part.classList.toggle("asked", is);

export async function showQuestion(question, nameOfRow) {
	showAsked(isAsked(question));
	if (question.text !== asked) textField.value = asked = question.text; // what is typed stays
	viewList.value = question.view || state.collection?.default_view || "";
	showBecause(question, nameOfRow);
	if (question.clip) (await laneOf()).showClip(question.clip, question);
	else if (!lane.hidden) (await laneOf()).hideSound();
}

/** Say what an answer is made of: "like 17, 204; unlike 9", each removable. */
function showBecause({ id, like, unlike }, nameOfRow) {
	const chips = (words, rows, list) => (rows.length ? [el("span", t(words)), ...rows.map((row) => el("span.chip", nameOf(nameOfRow(row), 30),
		iconButton("close", t("remove", { what: nameOfRow(row) }), () => removeExample(row, list), "tiny")))] : []);
	const parts = [...chips("because.row", id === null ? [] : [id], "id"), ...chips("because.like", like, "like"), ...chips("because.unlike", unlike, "unlike")];
	because.hidden = !parts.length;
	fill(because, parts);
}
