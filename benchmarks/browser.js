/* What benchmarks/browser.py puts into the page: it notes shifts, long tasks, starts of sounds and frames. */
window.shift = 0;
window.tasks = [];
window.starts = [];
window.pressed = 0;
const each = (type, take) => new PerformanceObserver((list) => list.getEntries().forEach(take)).observe({type, buffered: true});
each("layout-shift", (entry) => entry.hadRecentInput || (shift += entry.value));
each("longtask", (entry) => tasks.push(entry.duration));
addEventListener("keydown", (event) => (pressed = event.timeStamp), true);
const begin = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...given) {
  starts.push(performance.now() - pressed);
  return begin.apply(this, given);
};
window.after = (test, from = performance.now()) => new Promise((resolve) => {
  const look = () => (test() ? requestAnimationFrame(() => resolve(performance.now() - from)) : setTimeout(look, 1));
  look();
});
window.frames = () => {
  const times = [];
  const next = (now) => (times.push(now), window.counting && requestAnimationFrame(next));
  window.counting = true;
  requestAnimationFrame(next);
  return times;
};
window.drop = async (text) => {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0)), moved = new DataTransfer();
  moved.items.add(new File([bytes], "dropped.wav", {type: "audio/wav"}));
  const drag = (type) => document.dispatchEvent(new DragEvent(type, {dataTransfer: moved, bubbles: true, cancelable: true}));
  drag("dragover"); // a person moves the file over the page before it is dropped
  await new Promise((resolve) => setTimeout(resolve, 300));
  const begun = performance.now();
  drag("drop");
  const canvases = () => [...document.querySelectorAll(".lane canvas")];
  const picture = await after(() => canvases().length === 2 && canvases().every((one) => one.width > 1), begun);
  const hits = await after(() => document.querySelector(".cards[aria-busy=false] .card .score:not(:empty)"), begun);
  return [picture, hits];
};
window.countRows = async (text) => {
  const area = document.querySelector(".panel textarea"), note = document.querySelector(".panel .muted");
  area.value = text;
  note.textContent = "";
  area.dispatchEvent(new Event("input"));
  return after(() => note.textContent !== "");
};
