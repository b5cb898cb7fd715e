// The probability curve of a volume, and the slider below it.
import { $, colorOf, counted, percent, settings, styleOf } from "./dom.js";
import { sayingOf } from "./entries.js";

const HIGH = 100;
const WIDE = 1000;

function shape(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** What the curve shows: without a class that means no tumour, it is the probability of each slice's own class. */
const WHAT = settings.negative === null ? "Probability of its class" : "Tumour probability";

/** Tumour probability of a slice that is done, read and shows a brain; else null. */
const valueOf = (slice) => slice?.tumor ?? null;

/** Draws the curve of `entry` and puts the slider at its slice. */
export function showCurve(entry) {
  const { volume, slices, at } = entry;
  const last = Math.max(1, volume.slices - 1);
  const x = (number) => (WIDE * number) / last;
  const y = (value) => HIGH - HIGH * value;
  const half = WIDE / last / 2;
  const parts = [];
  const band = (from, to, kind) => parts.push(shape("rect", {
    class: kind, x: Math.max(0, x(from) - half), width: Math.min(WIDE, x(to) + half) - Math.max(0, x(from) - half), y: 0, height: HIGH,
  }));
  for (const [from, to] of runs(volume.slices, (number) => slices[number] && valueOf(slices[number]) === null)) band(from, to, "none");
  for (const finding of volume.record?.findings || []) {
    const line = shape("line", { class: `finding style${styleOf(finding.class)}`, x1: x(finding.slices[0]) - half, x2: x(finding.slices[1]) + half, y1: 97, y2: 97 });
    line.style.stroke = colorOf(finding.class);
    parts.push(line);
  }
  for (const value of [0, 0.5, 1]) parts.push(shape("line", { class: "grid", x1: 0, x2: WIDE, y1: y(value), y2: y(value) }));
  for (const [from, to] of runs(volume.slices, (number) => valueOf(slices[number]) !== null)) {
    const points = [];
    for (let number = from; number <= to; number += 1) points.push(`${x(number)},${y(valueOf(slices[number]))}`);
    if (from === to) points.unshift(`${x(from) - half / 2},${y(valueOf(slices[from]))}`);
    parts.push(shape("polyline", { class: "values", points: points.join(" ") }));
  }
  parts.push(shape("line", { class: "now", x1: x(at), x2: x(at), y1: 0, y2: HIGH }));
  $("curve").replaceChildren(...parts);
  const slider = $("slice");
  slider.max = String(volume.slices - 1);
  slider.value = String(at);
  const text = `slice ${at} (0 to ${volume.slices - 1}): ${sayingOf(slices[at])}`;
  slider.setAttribute("aria-valuetext", text);
  $("slice-at").textContent = text;
}

/** The slice below a place on the curve. */
export function sliceAt(entry, event) {
  const area = $("curve").getBoundingClientRect();
  const share = Math.min(Math.max((event.clientX - area.left) / area.width, 0), 1);
  return Math.round(share * (entry.volume.slices - 1));
}

/** First and last number of each run of slices for which `holds`. */
function runs(slices, holds) {
  const found = [];
  for (let number = 0; number < slices; number += 1) {
    if (!holds(number)) continue;
    if (found.length && found.at(-1)[1] === number - 1) found.at(-1)[1] = number;
    else found.push([number, number]);
  }
  return found;
}

/** What the curve says, in words. */
export function curveInWords(entry) {
  const values = entry.slices.map(valueOf);
  const best = values.reduce((top, value, number) => (value !== null && (top < 0 || value > values[top]) ? number : top), -1);
  const unjudged = entry.slices.filter((slice) => slice && valueOf(slice) === null).length;
  const highest = best < 0 ? "No slice of a brain yet." : `Highest on slice ${best}: ${percent(values[best])}.`;
  const grey = unjudged ? ` Grey: ${counted(unjudged, "slice")} of no brain or not read.` : "";
  return `${WHAT} of each slice, 0 to 100 %. ${highest}${grey}`;
}
