// What can be taken away: records as JSON or CSV, pictures as PNG or all of them in a zip archive.
import { classes, make, say } from "./dom.js";
import { recordOf, saying, sayingOf, shownSlice, sure, view } from "./entries.js";
import { pictureOf, PLAIN } from "./picture.js";

export function save(content, type, name) {
  const link = make("a", undefined, { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** The slices of the entries in the list, whose records name their file and, of volumes, their `study` and `frame`. */
function slices() {
  return view.shown.flatMap((entry) => entry.slices.filter(Boolean).map((slice) => (
    { ...slice, record: entry.volume ? slice.record : { ...slice.record, image: entry.name } })));
}

const records = () => slices().map(({ record }) => record);

const studies = () => view.shown.filter((entry) => entry.volume && recordOf(entry)).map(recordOf);

/** As the HTTP API answers: a list of records; with volumes, `studies` and `records`. */
export function asJson() {
  const volumes = view.shown.some((entry) => entry.volume);
  return JSON.stringify(volumes ? { studies: studies(), records: records() } : records(), null, 1);
}

/** A cell that no program takes for a formula, though names of files may look like one. */
function cell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

const table = (rows) => `${rows.map((cells) => cells.map(cell).join(",")).join("\n")}\n`;

const placesOf = (all) => ["frame", "axis", "study"].filter((key) => all.some(({ record }) => key in record));

/** A row for each picture, with the columns of `predict`. */
export function asCsv() {
  const all = slices();
  const places = placesOf(all);
  const head = ["image", "class", "confidence", ...classes.map((name) => `p_${name}`), "boxes", "flags", "width",
    "height", "model", "error", ...places];
  return table([head, ...all.map((slice) => [
    slice.record.image, slice.record.class, slice.record.confidence,
    ...classes.map((name) => (slice.record.probabilities || {})[name]),
    slice.record.class ? sure(slice).length : "", (slice.record.flags || []).join(";"), slice.record.width,
    slice.record.height, slice.record.model, slice.record.error, ...places.map((key) => slice.record[key]),
  ])]);
}

/** A row for each box. */
export function asBoxesCsv() {
  const all = slices();
  const places = placesOf(all);
  return table([["image", ...places, "class", "score", "x1", "y1", "x2", "y2"], ...all.flatMap((slice) => (
    sure(slice).map((box) => [
      slice.record.image, ...places.map((key) => slice.record[key]), box.class, box.score, ...box.xyxy,
    ])))]);
}

function caption(entry, at) {
  if (!entry.volume) return `${entry.name}: ${saying(entry)}`;
  return `${entry.name}, slice ${at}: ${sayingOf(entry.slices[at])}; volume: ${saying(entry)}`;
}

const plainName = (entry, at) => {
  const name = entry.name.replaceAll(/[\\/:*?"<>|\p{Cc}]/gu, "_");
  return entry.volume ? `${name}.${at}.pred.png` : `${name}.pred.png`;
};

/** The slice that is shown, as it is shown. */
export async function savePicture(how) {
  const entry = view.current;
  const slice = shownSlice(entry);
  if (!slice?.blob) return say("There is no picture to save.");
  return save(await pictureOf(slice, how, caption(entry, entry.at)), "image/png", plainName(entry, entry.at));
}

/** All pictures of the list with their boxes: of a volume the best slice of each finding, or the one in the middle. */
export async function savePictures() {
  const files = [];
  for (const entry of view.shown) {
    const best = entry.volume?.record?.findings?.map((finding) => finding.best_slice) || [];
    const wanted = best.length ? [...new Set(best)] : [entry.volume ? Math.floor(entry.volume.slices / 2) : 0];
    for (const at of wanted) {
      if (!entry.slices[at]?.blob) continue;
      const picture = await pictureOf(entry.slices[at], PLAIN, caption(entry, at));
      files.push({ name: `${String(files.length + 1).padStart(3, "0")} ${plainName(entry, at)}`, content: new Uint8Array(await picture.arrayBuffer()) });
      say(`Drawing pictures: ${files.length} done.`, false);
    }
  }
  if (!files.length) return say("There is no picture to save.");
  say(`${files.length} pictures saved in pictures.zip.`);
  return save(zipped(files), "application/zip", "pictures.zip");
}

const CRC = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let i = 0; i < 8; i += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function checksum(content) {
  let crc = 0xffffffff;
  for (const byte of content) crc = (crc >>> 8) ^ CRC[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

/** A zip archive of files that are not compressed again, as PNG is already. */
function zipped(files) {
  const [local, central] = [[], []];
  let offset = 0;
  const record = (signature, ...fields) => {
    const view = new DataView(new ArrayBuffer(fields.reduce((sum, [size]) => sum + size, 4)));
    view.setUint32(0, signature, true);
    fields.reduce((at, [size, value]) => { size === 4 ? view.setUint32(at, value, true) : view.setUint16(at, value, true); return at + size; }, 4);
    return view;
  };
  for (const { name, content } of files) {
    const title = new TextEncoder().encode(name);
    // Version 2.0, names in UTF-8, stored, 1 January 1980.
    const common = [[2, 20], [2, 0x800], [2, 0], [2, 0], [2, 33], [4, checksum(content)], [4, content.length], [4, content.length], [2, title.length], [2, 0]];
    const head = record(0x04034b50, ...common);
    local.push(head, title, content);
    central.push(record(0x02014b50, [2, 20], ...common, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), title);
    offset += head.byteLength + title.length + content.length;
  }
  const size = central.reduce((sum, part) => sum + part.byteLength, 0);
  const end = record(0x06054b50, [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]);
  return new Blob([...local, ...central, end]);
}
