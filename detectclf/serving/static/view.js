// The large view: a picture or a volume, its answer, boxes and activation map.
import { $, counted, hear, labelled, listed, make, percent, words } from "./dom.js";
import { changes, done, entries, flagsOf, judged, problem, recordOf, saying, sayingOf, shownSlice, sure, tell, view } from "./entries.js";
import { curveInWords, showCurve } from "./curve.js";
import { draw, pixelsOf } from "./picture.js";
import { explained } from "./requests.js";

const shade = { slice: null, pixels: null };
const map = { wait: 0, stop: null, seconds: null };

export function choose(entry) {
  view.current = entry;
  tell("chosen", entry);
  return show(entry);
}

/** From entry to entry of the list: from the one that has the focus, else from the one that is shown. */
export function step(by) {
  const focused = Number(document.activeElement?.dataset.number);
  const at = view.shown.indexOf(view.shown.find((entry) => entry.number === focused) || view.current);
  const next = view.shown[Math.min(Math.max(at + by, 0), view.shown.length - 1)];
  if (!next || (next === view.current && !focused)) return;
  choose(next);
  hear(`${next.name}: ${saying(next)}`);
}

/** To a slice of the volume that is open. */
export function turn(to) {
  const entry = view.current;
  if (!entry?.volume) return;
  entry.volume.follow = false;
  entry.at = Math.min(Math.max(to, 0), entry.volume.slices - 1);
  show(entry);
}

async function show(entry) {
  const slice = shownSlice(entry);
  $("view-title").textContent = entry.name;
  // A volume that was refused as a whole has no slices to go through.
  const sliced = entry.volume && (done(entry) > 0 || !problem(entry));
  $("volume").hidden = $("findings").hidden = !sliced;
  $("said").textContent = verdict(entry);
  $("view-flags").replaceChildren(...flagsOf(entry).map((flag) => make("li", words(flag))));
  if (sliced) showVolume(entry, slice);
  $("slice-flags").textContent = entry.volume && slice?.record.flags?.length ? `This slice: ${listed(slice.record.flags)}` : "";
  const shares = (slice?.judged && slice.record.probabilities) || {};
  $("view-probabilities").replaceChildren(...Object.entries(shares).sort(([, a], [, b]) => b - a).map(probability));
  const boxes = sure(slice);
  $("view-boxes").replaceChildren(...boxes.map(boxRow));
  if (!boxes.length) $("view-boxes").append(wholeRow(slice && !slice.record.error ? "no box" : "not read"));
  const described = entry.volume ? `Slice ${entry.at}: ${sayingOf(slice)}` : verdict(entry);
  $("picture").setAttribute("aria-label", `${entry.name}. ${described}`);
  await load(entry, slice);
}

function verdict(entry) {
  if (problem(entry)) return problem(entry);
  if (entry.volume && !recordOf(entry)) return saying(entry);
  if (!judged(entry)) return "Not judged: this is no brain MRI that the model knows.";
  return entry.volume ? `Volume: ${saying(entry)}` : saying(entry);
}

function showVolume(entry, slice) {
  showCurve(entry);
  $("curve-said").textContent = curveInWords(entry);
  const { record } = entry.volume;
  const findings = record?.findings || [];
  $("view-findings").replaceChildren(...findings.map(findingRow));
  if (record && !findings.length) $("view-findings").append(wholeRow("none"));
  if (!record) $("view-findings").append(wholeRow(entry.volume.unfinished ? "not finished" : "when all slices are read"));
  const flickers = record?.flickers?.length || 0;
  const agree = record?.agree ? `A tumour is called where ${record.agree} neighbouring slices agree.` : "";
  const short = flickers ? ` Boxes on fewer slices, which do not count: ${flickers}.` : "";
  const copies = record?.left_out?.length || 0;
  const left = copies ? ` Not read, as other files show the same positions: ${counted(copies, "file")}.` : "";
  $("findings-said").textContent = `${agree}${short}${left}`;
  if (!slice) $("slice-flags").textContent = "";
}

function findingRow(finding) {
  const cells = make("tr");
  const [first, last] = finding.slices;
  const go = make("button", `Show slice ${finding.best_slice}`, { type: "button", className: "small" });
  go.setAttribute("aria-label", `Show slice ${finding.best_slice}, the best of this ${words(finding.class)}`);
  go.addEventListener("click", () => turn(finding.best_slice));
  const extent = finding.extent_mm ? `, ${finding.extent_mm.map((v) => v.toFixed(0)).join(" × ")} mm` : "";
  const where = make("td", `slices ${first} to ${last}${extent} `);
  where.append(go);
  cells.append(labelled(finding.class), make("td", percent(finding.score), { className: "number" }), where);
  return cells;
}

function probability([name, share]) {
  const cells = make("tr");
  const bar = make("td");
  bar.append(make("meter", undefined, { value: share, min: 0, max: 1, ariaHidden: "true" }));
  cells.append(make("th", words(name), { scope: "row" }), make("td", percent(share), { className: "number" }), bar);
  return cells;
}

function boxRow(box) {
  const cells = make("tr");
  const [left, top, right, bottom] = box.xyxy.map(Math.round);
  cells.append(labelled(box.class), make("td", percent(box.score), { className: "number" }),
    make("td", `x ${left} to ${right}, y ${top} to ${bottom}`));
  return cells;
}

function wholeRow(text) {
  const cells = make("tr");
  cells.append(make("td", text));
  return cells;
}

async function load(entry, slice) {
  if (slice && shade.slice === slice) return undefined;
  Object.assign(shade, { slice, pixels: null });
  $("picture").hidden = !slice?.blob;
  $("no-picture").hidden = Boolean(slice?.blob);
  $("no-picture").textContent = slice?.record.error || (recordOf(entry) || entry.detail ? "Not read." : "This slice is not done yet.");
  map.stop?.abort();
  $("map-said").textContent = "";
  if (!slice?.blob) return undefined;
  const pixels = await pixelsOf(slice);
  if (shade.slice !== slice) return undefined; // another one was chosen meanwhile
  shade.pixels = pixels;
  redraw();
  return askForMap(250);
}

export const how = () => ({
  window: Number($("window").value),
  level: Number($("level").value),
  boxes: $("boxes").checked,
  heat: $("map").checked ? Number($("opacity").value) / 100 : 0,
});

export function redraw() {
  if (shade.pixels) draw($("picture"), shade.slice, shade.pixels, how());
}

// ---- the activation map, computed only where it is asked for

/** Has the map of the shown slice computed, after `delay` ms in which no other slice is chosen. */
export function askForMap(delay = 0) {
  clearTimeout(map.wait);
  map.stop?.abort();
  $("opacity").disabled = !$("map").checked;
  $("map-said").textContent = "";
  redraw();
  const { slice } = shade;
  if (!$("map").checked || !slice?.blob) return;
  if (!slice.judged) $("map-said").textContent = "No activation map: a slice that is not judged has no class to explain.";
  else if (slice.heat) mapSaid(slice);
  else map.wait = setTimeout(() => compute(slice), delay);
}

async function compute(slice) {
  const stop = map.stop = new AbortController();
  const usual = map.seconds === null ? "the first one may take ten seconds, while the network is loaded" : `about ${Math.max(1, Math.round(map.seconds))} s`;
  $("map-said").textContent = `Computing the activation map (${usual}) …`;
  const begun = performance.now();
  try {
    slice.heat = await explained(slice, stop.signal);
    map.seconds = (performance.now() - begun) / 1000;
    if (shade.slice !== slice || !$("map").checked) return;
    mapSaid(slice);
    redraw();
  } catch (error) {
    if (error.name !== "AbortError") $("map-said").textContent = `No activation map: ${error.message}.`;
  }
}

function mapSaid(slice) {
  const { heat } = slice;
  const what = heat.evidence ? `What in this slice speaks for “${words(heat.class)}”` : `Nothing in this slice speaks for “${words(heat.class)}”`;
  $("map-said").textContent = `${what} (LayerCAM of the classifier). ${heat.fit}`;
}

changes.addEventListener("answered", ({ detail: entry }) => {
  if (entry === view.current) show(entry);
  else if (!view.current && entries.includes(entry) && !problem(entry)) choose(entry);
});
