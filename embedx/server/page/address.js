/* The address: what is behind # is the whole question, so that a link shows the same to somebody else. */

import { noQuestion } from "./state.js";

export const SCREENS = ["find", "map", "label", "about"];
const LISTS = ["like", "unlike"];
const NUMBERS = ["id", "start_s", "end_s"];
const TEXTS = ["text", "where", "view", "clip"];
const GROUPS = ["recording"];
const SCREEN_FIELDS = { map: ["method", "colour", "box"], label: ["by", "head"] };

/** Return {name, screen, question, row, extra, unknown} of the part of an address behind #. */
export function parseAddress(hash) {
  const [path, query = ""] = split(hash.replace(/^#/, ""), "?");
  const parts = path.split("/").map(decode);
  const named = SCREENS.includes(parts[1]);
  const found = {
    name: parts[0] ?? "",
    screen: named ? parts[1] : "find",
    question: noQuestion(),
    row: null,
    extra: {},
    unknown: parts[1] && !named ? [parts[1]] : [],
  };
  for (const [key, value] of new URLSearchParams(query)) if (!read(found, key, value)) found.unknown.push(key);
  return found;
}

function read(found, key, value) {
  const { question } = found;
  if (LISTS.includes(key)) return assign(question, key, value.split(",").map(example).filter((one) => one !== null));
  if (NUMBERS.includes(key)) return number(value) !== null && assign(question, key, number(value));
  if (TEXTS.includes(key)) return value.length <= 10_000 && assign(question, key, value);
  if (key === "group") return GROUPS.includes(value) && assign(question, "group", value);
  if (key === "diverse") return value === "1" && assign(question, "diverse", true);
  if (key === "row") return number(value) !== null && assign(found, "row", number(value));
  return (SCREEN_FIELDS[found.screen] ?? []).includes(key) && assign(found.extra, key, value);
}

function assign(target, key, value) {
  target[key] = value;
  return true;
}

const number = (text) => (/^\d{1,15}(\.\d{1,6})?$/.test(text) ? Number(text) : null);
const example = (text) => (/^clip:\w{1,40}$/.test(text) ? text : Number.isInteger(number(text)) ? number(text) : null);

function split(text, sign) {
  const place = text.indexOf(sign);
  return place < 0 ? [text] : [text.slice(0, place), text.slice(place + 1)];
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Return the part of an address behind #, with #. Only what differs from an empty question is in it. */
export function formatAddress({ name, screen, question, row = null, extra = {} }) {
  const fields = [];
  for (const key of ["clip", ...NUMBERS, "text", ...LISTS, "where", "view", "group"]) {
    const value = question[key];
    if (value !== null && value !== "" && value.length !== 0) fields.push([key, String(value)]);
  }
  if (question.diverse) fields.push(["diverse", "1"]);
  for (const [key, value] of Object.entries(extra)) if (value) fields.push([key, value]);
  if (row !== null) fields.push(["row", String(row)]);
  const query = fields.map(([key, value]) => `${key}=${encodeURIComponent(value).replace(/%2C/g, ",")}`).join("&");
  return `#${encodeURIComponent(name)}/${screen}${query ? `?${query}` : ""}`;
}
