// Files that were dropped, chosen or pasted become jobs: pictures one by one, volumes with all their files.
import { settings } from "./dom.js";

const NOTES = /(\.(json|jsonl|csv|txt|xml|ya?ml|md|html|css|js|pdf|log|inf|exe)|(^|\/)(DICOMDIR|Thumbs\.db))$/i;
const PICTURE = /\.(png|jpe?g|tiff?|bmp|webp|gif)$/i;
const NIFTI = /\.nii(\.gz)?$/i;
const DICOM = /\.(dcm|dicom|ima)$/i;
const HEADER_BYTES = 65536;
// Study (0020,000D) and, right behind it, series (0020,000E), as both little-endian encodings write them. References to
// other series, which come before, have no study there. What is not found so is told apart by its folder; the server
// looks at all of it again.
const SERIES = / \0\r\0(?:UI..|....)([\d.]+)[\0 ]? \0\x0e\0(?:UI..|....)([\d.]+)/s;
const FRAMES = /\x28\0\x08\0(?:IS..|....) *(\d+)/s; // (0028,0008), of a file that may be a volume by itself

/** The files of a drop, folders opened. */
export async function dropped(transfer) {
  const found = [];
  const items = [...transfer.items].filter((item) => item.kind === "file");
  // Both have to be asked for before the first wait, after which the transfer is empty.
  const tops = items.map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  for (const { entry, file } of tops) {
    if (entry) await opened(entry, "", found);
    else if (file) found.push({ file, path: file.name });
  }
  return found;
}

async function opened(entry, path, found) {
  if (entry.isFile) {
    found.push({ file: await new Promise((given, failed) => entry.file(given, failed)), path: path + entry.name });
  } else if (entry.isDirectory) {
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((given, failed) => reader.readEntries(given, failed));
      if (!some.length) break;
      for (const each of some) await opened(each, `${path}${entry.name}/`, found);
    }
  }
}

export const chosen = (input) => [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));

/** Jobs of `found`, in the order of their paths; `left` counts what is no picture by its name. */
export async function jobsOf(found) {
  const wanted = found.filter(({ path }) => !/(^|\/)\./.test(path) && (found.length === 1 || !NOTES.test(path)));
  wanted.sort((a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }));
  const groups = await Promise.all(wanted.map(groupOf));
  const series = new Map();
  const jobs = [];
  wanted.forEach((one, i) => {
    const group = groups[i];
    if (series.has(group)) series.get(group).files.push(one);
    else {
      jobs.push({ route: group === "file" ? "volumes" : "predict", name: one.path, files: [one], total: 1, done: 0, error: null });
      if (group !== null && group !== "file") series.set(group, jobs.at(-1));
    }
  });
  jobs.filter((job) => job.files.length > 1).forEach(asSeries);
  jobs.forEach((job) => { job.error = tooMuch(job); });
  return { jobs, left: found.length - wanted.length };
}

/** `file` for what may be a whole volume, the name of its series for a DICOM file, null for a picture. */
async function groupOf({ file, path }) {
  if (NIFTI.test(path)) return "file";
  if (PICTURE.test(path)) return null;
  const text = new TextDecoder("latin1").decode(await file.slice(0, HEADER_BYTES).arrayBuffer().catch(() => new ArrayBuffer(0)));
  if (text.startsWith("PK\x03\x04")) return "file";
  if (text.slice(128, 132) !== "DICM" && !DICOM.test(path)) return null;
  if (Number(FRAMES.exec(text)?.[1]) > 1) return "file";
  const [, study, name] = SERIES.exec(text) || [null, "", path.slice(0, path.lastIndexOf("/") + 1)];
  return `series ${study} ${name}`;
}

function asSeries(job) {
  const folders = new Set(job.files.map(({ path }) => path.slice(0, Math.max(0, path.lastIndexOf("/")))));
  const folder = folders.size === 1 ? [...folders][0] : "";
  Object.assign(job, { route: "volumes", name: folder || "DICOM series", total: job.files.length });
}

function tooMuch({ files }) {
  const size = files.reduce((sum, { file }) => sum + file.size, 0);
  if (files.some(({ file }) => file.size > settings.mostBytes)) return `larger than ${settings.mostBytes} bytes; give a smaller file`;
  if (files.length > settings.mostVolumeFiles) return `more than ${settings.mostVolumeFiles} files of a series; choose fewer`;
  if (size > settings.mostRequestBytes) return `a series of more than ${settings.mostRequestBytes} bytes; choose fewer files`;
  return null;
}
