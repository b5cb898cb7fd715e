// The page of `detectclf serve`. Names of files and all that the server says become text, never markup.
"use strict";

const $ = (id) => document.getElementById(id);
const settings = JSON.parse(document.body.dataset.settings);
const classes = Object.keys(settings.colors);
const DASHES = [[], [12, 7], [3, 5], [14, 5, 3, 5]]; // a line style per class, since colour alone would not do
const NOTES = /\.(json|jsonl|csv|txt|xml|ya?ml|md|html|css|js)$/i;
const EXAMPLES = ["meningioma", "glioma", "pituitary", "no_tumor"];
const AT_ONCE = 3;

const state = {
  items: [], shown: [], queue: [], running: 0, sent: 0, answered: 0, begun: 0,
  current: null, stop: null, token: "", locked: false, sort: "flags", down: true, examples: 0,
};

// ---- text and elements

function make(tag, text, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) element.textContent = text;
  return element;
}

const percent = (share) => (share === null || share === undefined ? "" : `${(100 * share).toFixed(1)} %`);
const plain = (flags) => flags.map((flag) => flag.replaceAll("_", " ")).join(", ");
const styleOf = (name) => Math.max(0, classes.indexOf(name)) % DASHES.length;
const colorOf = (name) => `rgb(${(settings.colors[name] || [187, 187, 187]).join(",")})`;
const sure = (item) => (item.record.boxes || []).filter((box) => box.score >= item.threshold);

function saying(item) {
  if (item.record.error) return "not read";
  if (!item.judged) return "not judged";
  return `${item.record.class} ${percent(item.record.confidence)}`;
}

function swatch(name) {
  const element = make("span", undefined, { className: `swatch style${styleOf(name)}` });
  element.style.borderColor = colorOf(name);
  element.setAttribute("aria-hidden", "true");
  return element;
}

// ---- files in

async function entries(entry, path, found) {
  if (entry.isFile) {
    found.push({ file: await new Promise((done, failed) => entry.file(done, failed)), path: path + entry.name });
  } else if (entry.isDirectory) {
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) break;
      for (const each of some) await entries(each, `${path}${entry.name}/`, found);
    }
  }
}

async function dropped(transfer) {
  const found = [];
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const tops = items.map((item) => ({ entry: item.webkitGetAsEntry && item.webkitGetAsEntry(), file: item.getAsFile() }));
  for (const { entry, file } of tops) {
    if (entry) await entries(entry, "", found);
    else if (file) found.push({ file, path: file.name });
  }
  add(found);
}

const chosen = (input) => {
  add([...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
  input.value = "";
};

function add(found) {
  const wanted = found.filter(({ path }) => !/(^|\/)\./.test(path) && (found.length === 1 || !NOTES.test(path)));
  wanted.sort((a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }));
  if (!state.running && !state.queue.length) Object.assign(state, { sent: 0, answered: 0, begun: performance.now() });
  if (!state.stop) state.stop = new AbortController();
  state.queue.push(...wanted);
  state.sent += wanted.length;
  const left = found.length - wanted.length;
  if (!wanted.length) say(left ? `No picture among ${left} files.` : "There was no file.");
  pump();
}

// ---- predictions

function pump() {
  while (state.running < AT_ONCE && state.queue.length && !state.locked) {
    const next = state.queue.shift();
    state.running += 1;
    predict(next, state.stop.signal)
      .catch((error) => {
        if (error.name !== "AbortError") failed(next, "the server cannot be reached; is it still running?");
      })
      .finally(() => {
        state.running -= 1;
        state.answered += 1;
        progress();
        pump();
      });
  }
  progress();
}

const headers = () => (state.token ? { Authorization: `Bearer ${state.token}` } : {});

async function predict(next, signal) {
  if (next.file.size > settings.most) return failed(next, `larger than ${settings.most} bytes; give a smaller file`);
  const body = new FormData();
  body.append("files", next.file, next.file.name);
  const answer = await fetch("/page/predict", { method: "POST", body, headers: headers(), signal });
  if (answer.status === 429) {
    await new Promise((done) => setTimeout(done, 1000 * (Number(answer.headers.get("Retry-After")) || 1)));
    if (signal.aborted) return undefined;
    return predict(next, signal);
  }
  if (answer.status === 401) {
    ask();
    state.queue.unshift(next);
    state.answered -= 1; // it will be counted again
    return undefined;
  }
  if (!answer.ok) return failed(next, (await answer.json()).detail);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    text += value || "";
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) received(next, JSON.parse(line));
    if (done) return undefined;
  }
}

function ask() {
  if (!$("login").hidden) return;
  state.locked = true;
  $("login").hidden = false;
  $("token").focus();
}

const failed = (next, detail) => received(next, { record: { image: next.path, error: detail } });

function received(next, line) {
  if (line.problem) return failed(next, line.problem.detail);
  const item = { record: line.record, threshold: line.box_threshold, judged: line.judged, url: null };
  // Of a file the server knows the name alone, of an archive also what is in it.
  item.name = line.record.image.length > next.file.name.length ? line.record.image : next.path;
  item.flags = item.record.error ? ["not_read"] : item.record.flags;
  if (line.png) {
    const bytes = Uint8Array.from(atob(line.png), (letter) => letter.charCodeAt(0));
    item.url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  }
  item.number = state.items.push(item);
  $("results").hidden = false;
  if (!state.current && !item.record.error) choose(item);
  return later();
}

function say(text) {
  $("work").hidden = false;
  if ($("state").textContent !== text) $("state").textContent = text;
}

function progress() {
  const busy = state.running > 0 || state.queue.length > 0;
  $("stop").disabled = !busy;
  $("bar").value = state.sent ? state.answered / state.sent : 0;
  if (!state.sent) return;
  const seconds = (performance.now() - state.begun) / 1000;
  const left = Math.ceil((seconds / Math.max(1, state.answered)) * (state.sent - state.answered));
  const flagged = state.items.filter((item) => item.flags.length).length;
  const soon = busy && state.answered > 2 ? `, about ${left} s left` : "";
  const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
  say(`${state.answered} of ${count(state.sent, "file")} done${soon}; ${count(state.items.length, "slice")}, ${flagged} flagged.`);
}

function stop() {
  const dropped = state.queue.length;
  state.queue = [];
  state.sent -= dropped;
  if (state.stop) state.stop.abort();
  state.stop = null; // what comes next has a signal of its own
  progress();
}

// ---- the list

const KEYS = {
  name: (item) => item.name,
  class: (item) => item.record.class || "",
  confidence: (item) => item.record.confidence ?? -1,
  boxes: (item) => sure(item).length,
  flags: (item) => item.flags.length,
};

let waiting = 0;
function later() {
  // Hundreds of answers a minute need not draw the list each by itself.
  if (!waiting) waiting = setTimeout(() => { waiting = 0; list(); progress(); }, 120);
}

function matches(item) {
  const filter = $("filter").value;
  const words = $("search").value.trim().toLowerCase();
  if (words && !item.name.toLowerCase().includes(words)) return false;
  if (filter === "flagged") return item.flags.length > 0;
  if (filter === "error") return Boolean(item.record.error);
  return filter === "all" || item.record.class === filter.slice("class ".length);
}

function list() {
  const key = KEYS[state.sort];
  const order = (a, b) => {
    const [x, y] = [key(a), key(b)];
    const by = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
    return (state.down ? -by : by) || a.number - b.number;
  };
  const focused = document.activeElement?.dataset?.number;
  const inside = document.activeElement?.closest("#thumbnails, #rows")?.id;
  state.shown = state.items.filter(matches).sort(order);
  $("thumbnails").replaceChildren(...state.shown.map(thumbnail));
  $("rows").replaceChildren(...state.shown.map(row));
  $("list-title").textContent = `${state.shown.length} of ${state.items.length} slices`;
  mark();
  if (inside) document.querySelector(`#${inside} [data-number="${Number(focused)}"]`)?.focus();
}

function opener(item, text) {
  const button = make("button", text, { type: "button" });
  button.dataset.number = item.number;
  button.addEventListener("click", () => choose(item));
  return button;
}

function thumbnail(item) {
  const button = opener(item);
  const picture = item.url ? make("img", undefined, { src: item.url, alt: "", loading: "lazy" })
    : make("span", "not read", { className: "none" });
  button.append(picture, make("span", item.name, { className: "name" }), make("span", saying(item)));
  if (item.flags.length && !item.record.error) {
    button.append(make("span", plain(item.flags), { className: "flag" }));
  }
  const entry = make("li");
  entry.append(button);
  return entry;
}

function row(item) {
  const cells = make("tr");
  cells.dataset.row = item.number;
  const name = make("td");
  name.append(opener(item, item.name));
  const said = item.record.error || (item.judged ? item.record.class : "not judged");
  const number = make("td", item.judged ? percent(item.record.confidence) : "", { className: "number" });
  const flags = make("td", plain(item.flags));
  cells.append(name, make("td", said), number, make("td", item.record.error ? "" : String(sure(item).length)), flags);
  return cells;
}

function mark() {
  const number = state.current ? state.current.number : 0;
  for (const button of $("thumbnails").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(Number(button.dataset.number) === number));
  }
  for (const cells of $("rows").children) cells.className = Number(cells.dataset.row) === number ? "now" : "";
}

function step(by) {
  const at = state.shown.indexOf(state.current);
  const next = state.shown[Math.min(Math.max(at + by, 0), state.shown.length - 1)];
  if (!next) return;
  const inside = document.activeElement?.closest("#thumbnails, #rows")?.id;
  choose(next);
  const where = document.querySelector(`#${inside || "thumbnails"} [data-number="${next.number}"]`);
  if (inside) where?.focus();
  where?.scrollIntoView({ block: "nearest" });
}

// ---- the large view

const shade = { item: null, pixels: null };

async function choose(item) {
  state.current = item;
  mark();
  const { record } = item;
  $("view-title").textContent = item.name;
  $("view-class").textContent = record.error || (item.judged ? saying(item) : "Not judged: this is no brain MRI that the model knows.");
  $("view-flags").replaceChildren(...(record.flags || []).map((flag) => make("li", plain([flag]))));
  $("view-probabilities").replaceChildren(...Object.entries(record.probabilities || {}).map(([name, share]) => {
    const cells = make("tr");
    const bar = make("td");
    bar.append(make("meter", undefined, { value: share, min: 0, max: 1, ariaHidden: "true" }));
    cells.append(make("th", name, { scope: "row" }), make("td", percent(share), { className: "number" }), bar);
    return cells;
  }));
  const boxes = item.judged ? sure(item) : [];
  $("view-boxes").replaceChildren(...boxes.map((box) => {
    const cells = make("tr");
    const name = make("th", undefined, { scope: "row" });
    name.append(swatch(box.class), box.class);
    const [left, top, right, bottom] = box.xyxy.map(Math.round);
    cells.append(name, make("td", percent(box.score), { className: "number" }), make("td", `x ${left} to ${right}, y ${top} to ${bottom}`));
    return cells;
  }));
  if (!boxes.length && !record.error) {
    const cells = make("tr");
    cells.append(make("td", "no box"));
    $("view-boxes").append(cells);
  }
  await load(item);
}

async function load(item) {
  Object.assign(shade, { item, pixels: null });
  $("picture").hidden = !item.url;
  if (!item.url) return;
  const picture = new Image();
  picture.src = item.url;
  await picture.decode();
  if (shade.item !== item) return; // another one was chosen meanwhile
  const canvas = make("canvas", undefined, { width: picture.naturalWidth, height: picture.naturalHeight });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  shade.pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  draw();
}

function draw() {
  const { item, pixels } = shade;
  if (!pixels) return;
  const [width, level] = [Number($("window").value), Number($("level").value)];
  const levels = Uint8ClampedArray.from({ length: 256 }, (_, v) => (255 * (v - level + width / 2)) / width);
  const shaded = make("canvas", undefined, { width: pixels.width, height: pixels.height });
  const copy = new ImageData(pixels.data.map((v, i) => (i % 4 === 3 ? 255 : levels[v])), pixels.width, pixels.height);
  shaded.getContext("2d").putImageData(copy, 0, 0);
  const canvas = $("picture");
  const scale = Math.max(1, Math.min(4, 1024 / Math.max(pixels.width, pixels.height)));
  canvas.width = Math.round(pixels.width * scale);
  canvas.height = Math.round(pixels.height * scale);
  const context = canvas.getContext("2d");
  context.drawImage(shaded, 0, 0, canvas.width, canvas.height);
  if ($("boxes").checked && item.judged) sure(item).forEach((box) => drawBox(context, box, canvas.width / item.record.width));
}

function drawBox(context, box, scale) {
  const [left, top, right, bottom] = box.xyxy.map((v) => v * scale);
  const unit = context.canvas.width / 400;
  const stroke = (color, thick) => {
    context.strokeStyle = color;
    context.lineWidth = thick * unit;
    context.strokeRect(left, top, right - left, bottom - top);
  };
  context.setLineDash([]);
  stroke("rgba(0,0,0,.75)", 2.2);
  context.setLineDash(DASHES[styleOf(box.class)].map((v) => (v * unit) / 2));
  stroke(colorOf(box.class), 1.2);
  context.font = `${11 * unit}px system-ui, sans-serif`;
  const label = `${box.class} ${percent(box.score)}`;
  const wide = context.measureText(label).width + 6 * unit;
  const x = Math.max(0, Math.min(left, context.canvas.width - wide));
  const y = top > 16 * unit ? top - 16 * unit : Math.min(bottom + 1 * unit, context.canvas.height - 15 * unit);
  context.fillStyle = "rgba(0,0,0,.8)";
  context.fillRect(x, y, wide, 15 * unit);
  context.fillStyle = "#fff";
  context.fillText(label, x + 3 * unit, y + 11.5 * unit);
}

// ---- downloads

function save(content, type, name) {
  const link = make("a", undefined, { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function csv(records) {
  const quote = (value) => (/[",\n\r]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));
  const head = ["image", "class", "confidence", ...classes.map((name) => `p_${name}`), "box_class", "box_score",
    "x1", "y1", "x2", "y2", "flags", "width", "height", "model", "error"];
  const rows = records.flatMap((record) => ((record.boxes || []).length ? record.boxes : [null]).map((box) => [
    record.image, record.class, record.confidence, ...classes.map((name) => (record.probabilities || {})[name]),
    ...(box ? [box.class, box.score, ...box.xyxy] : ["", "", "", "", "", ""]),
    (record.flags || []).join(";"), record.width, record.height, record.model, record.error,
  ]));
  return `${[head, ...rows].map((cells) => cells.map(quote).join(",")).join("\n")}\n`;
}

const records = () => state.shown.map((item) => ({ ...item.record, image: item.name }));

// ---- what people do

const on = (id, event, action) => $(id).addEventListener(event, action);
on("choose-files", "click", () => $("files").click());
on("choose-folder", "click", () => $("folder").click());
on("files", "change", () => chosen($("files")));
on("folder", "change", () => chosen($("folder")));
on("example", "click", async () => {
  const number = ++state.examples;
  const kind = EXAMPLES[(number - 1) % EXAMPLES.length];
  const answer = await fetch(`/page/example/${kind}`, { headers: headers() }).catch(() => null);
  if (answer && answer.status === 401) return ask();
  if (!answer || !answer.ok) return say("There is no example: the server refused, or cannot be reached.");
  const name = `drawn ${kind.replace("_", " ")} ${number}.png`;
  return add([{ file: new File([await answer.blob()], name), path: name }]);
});
on("login", "submit", (event) => {
  event.preventDefault();
  Object.assign(state, { token: $("token").value.trim(), locked: false });
  $("login").hidden = true;
  say("The token is kept until the page is closed.");
  pump();
});
on("stop", "click", stop);
on("clear", "click", () => {
  stop();
  state.items.forEach((item) => item.url && URL.revokeObjectURL(item.url));
  Object.assign(state, { items: [], shown: [], current: null, sent: 0, answered: 0 });
  $("results").hidden = true;
  say("Cleared.");
});
on("previous", "click", () => step(-1));
on("next", "click", () => step(1));
for (const id of ["boxes", "window", "level"]) on(id, "input", draw);
on("reset", "click", () => { $("window").value = 255; $("level").value = 127; draw(); });
on("save", "click", () => $("picture").toBlob((blob) => blob && save(blob, "image/png", `${state.current.name.split("/").pop()}.pred.png`)));
on("filter", "change", list);
on("search", "input", list);
on("json", "click", () => save(JSON.stringify(records(), null, 1), "application/json", "predictions.json"));
on("csv", "click", () => save(csv(records()), "text/csv", "predictions.csv"));
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    state.down = state.sort === button.dataset.sort ? !state.down : button.dataset.sort !== "name";
    state.sort = button.dataset.sort;
    for (const head of document.querySelectorAll("#table thead th")) head.removeAttribute("aria-sort");
    button.parentElement.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    list();
  });
}
document.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  const writing = event.target.closest?.("input, select, textarea, .scroll:focus");
  if (!by || writing || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !state.shown.length) return;
  event.preventDefault();
  step(by);
});
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => { event.preventDefault(); $("drop").classList.remove("over"); dropped(event.dataTransfer); });
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) add(files.map((file, i) => ({ file, path: file.name === "image.png" ? `pasted ${state.items.length + i + 1}.png` : file.name })));
});
