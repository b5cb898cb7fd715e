// What the page has: an entry for each picture and each volume.
//
// An entry: number, name, slices, at (the slice that is shown), volume, detail. A picture has one slice. The slices of a
// volume lie at their numbers, undefined until they are done. `volume`: how many slices there are, record (what they say
// together), judged, unfinished, follow (whether the view goes to each slice as it is done, until somebody chooses one).
// A slice: record, threshold, judged, tumor, blob, url, heat. `detail` says why there is no answer.
import { percent, settings, words } from "./dom.js";

export const entries = [];
export const view = { shown: [], current: null };
export const changes = new EventTarget();
export const tell = (what, detail) => changes.dispatchEvent(new CustomEvent(what, { detail }));

export function added(name, volume = null) {
  const entry = { number: 0, name, slices: [], at: 0, volume, detail: null };
  if (volume) {
    const taken = new Set(entries.map((each) => each.name));
    for (let i = 2; taken.has(entry.name); i += 1) entry.name = `${name} (${i})`; // slices name their volume by it
  }
  entry.number = entries.push(entry);
  return entry;
}

export function emptied() {
  for (const entry of entries) for (const slice of entry.slices) if (slice?.url) URL.revokeObjectURL(slice.url);
  entries.length = 0;
  Object.assign(view, { shown: [], current: null });
}

export function sliceOf(line) {
  const slice = { record: line.record, threshold: line.box_threshold, judged: line.judged, tumor: line.tumor, heat: null };
  if (!line.png) return slice;
  slice.blob = new Blob([bytesOf(line.png)], { type: "image/png" });
  slice.url = URL.createObjectURL(slice.blob);
  return slice;
}

export const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
export const shownSlice = (entry) => entry.slices[entry.at];
export const sure = (slice) => (slice?.judged ? slice.record.boxes || [] : []).filter((box) => box.score >= slice.threshold);
export const done = (entry) => entry.slices.reduce((sum, slice) => sum + (slice ? 1 : 0), 0);

/** The record that an entry as a whole is listed by: of its study, or of its picture; null while there is none. */
export const recordOf = (entry) => (entry.volume ? entry.volume.record : shownSlice(entry)?.record ?? null);
export const judged = (entry) => Boolean(entry.volume ? entry.volume.judged : shownSlice(entry)?.judged);
export const problem = (entry) => entry.detail || recordOf(entry)?.error || null;

export function flagsOf(entry) {
  if (entry.volume?.unfinished) return ["not_finished"];
  return problem(entry) ? ["not_read"] : recordOf(entry)?.flags || [];
}

export function boxesOf(entry) {
  if (!recordOf(entry) || problem(entry)) return null;
  return entry.volume ? entry.volume.record.findings.length : sure(shownSlice(entry)).length;
}

export function saying(entry) {
  if (entry.volume && !recordOf(entry)) {
    const far = `${done(entry)} of ${entry.volume.slices} slices`;
    return entry.volume.unfinished ? `ended after ${far}` : `reading, ${far}`;
  }
  if (problem(entry)) return "not read";
  return judged(entry) ? `${words(recordOf(entry).class)} ${percent(recordOf(entry).confidence)}` : "refused";
}

export function sayingOf(slice) {
  if (!slice) return "not done yet";
  if (slice.record.error) return "not read";
  if (!slice.judged) return "no brain";
  const called = `${words(slice.record.class)} ${percent(slice.record.confidence)}`;
  if (settings.negative === null || typeof slice.tumor !== "number") return called;
  const none = slice.record.class === settings.negative;
  return `tumour probability ${percent(slice.tumor)}${none ? "" : `, ${called}`}`;
}

/** The slice that stands for an entry in the list. */
export function cover(entry) {
  const best = entry.volume?.record?.findings?.[0]?.best_slice ?? Math.floor((entry.volume?.slices || 1) / 2);
  const drawn = entry.slices[best]?.url ? entry.slices[best] : entry.slices.findLast((slice) => slice?.url);
  return drawn || null;
}
