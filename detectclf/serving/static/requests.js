// The queue of jobs: sends them, takes the answers line by line, says how long it takes, and stops.
import { $, counted, say } from "./dom.js";
import { added, bytesOf, entries, flagsOf, sliceOf, tell } from "./entries.js";

const AT_ONCE = 3;
const work = { jobs: [], queue: [], running: new Set(), begun: 0, stop: null, token: "", locked: false };

const headers = () => (work.token ? { Authorization: `Bearer ${work.token}` } : {});
export const busy = () => work.running.size > 0 || work.queue.length > 0;

export function enqueue(jobs) {
  if (!busy()) Object.assign(work, { jobs: [], begun: performance.now() });
  if (!work.stop) work.stop = new AbortController();
  work.jobs.push(...jobs);
  work.queue.push(...jobs);
  pump();
}

/** Takes what waits out of the queue, and breaks off what is being answered. */
export function stop() {
  const dropped = new Set([...work.queue, ...work.running]);
  work.queue = [];
  work.jobs = work.jobs.filter((job) => !dropped.has(job) || job.done > 0);
  work.jobs.forEach((job) => { if (dropped.has(job)) job.total = job.done; });
  work.stop?.abort();
  work.stop = null; // what comes next has a signal of its own
  progress();
}

export function unlock(token) {
  Object.assign(work, { token, locked: false });
  $("login").hidden = true;
  say("The token is kept until the page is closed.");
  pump();
}

/** `fetch` with the token; null where one has to be given first. */
export async function fetched(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers() });
  if (answer.status !== 401) return answer;
  if ($("login").hidden) {
    work.locked = true;
    $("login").hidden = false;
    $("token").focus();
  }
  return null;
}

function pump() {
  const volume = () => [...work.running].some((job) => job.route === "volumes"); // the server takes one at a time
  while (work.running.size < AT_ONCE && !work.locked) {
    const at = work.queue.findIndex((job) => job.route !== "volumes" || !volume());
    if (at < 0) break;
    const [job] = work.queue.splice(at, 1);
    work.running.add(job);
    predict(job, work.stop.signal)
      .catch((error) => {
        if (error.name === "AbortError") ended(job, "stopped before it was done");
        else failed(job, "the server cannot be reached; is it still running?");
      })
      .finally(() => {
        work.running.delete(job);
        progress();
        pump();
      });
  }
  progress();
}

async function predict(job, signal) {
  if (job.error) return failed(job, job.error);
  const body = new FormData();
  for (const { file, path } of job.files) body.append("files", file, path);
  const answer = await fetched(`/page/${job.route}`, { method: "POST", body, signal });
  if (!answer) {
    work.queue.unshift(job);
    return undefined;
  }
  job.waits = answer.status === 429;
  if (job.waits) {
    soon();
    await pause(Number(answer.headers.get("Retry-After")) || 1, signal);
    return predict(job, signal);
  }
  if (!answer.ok) return failed(job, (await answer.json()).detail);
  job.volumes = 0;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    text += value || "";
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines) received(job, JSON.parse(line));
    if (done) break;
  }
  ended(job, "the answer is cut short; send it again");
  job.done = job.total;
  return undefined;
}

function pause(seconds, signal) {
  return new Promise((over, broken) => {
    const timer = setTimeout(over, 1000 * seconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); broken(signal.reason); }, { once: true });
  });
}

let waiting = 0;
/** Hundreds of answers a minute need not be told each by itself. */
function soon() {
  if (!waiting) waiting = setTimeout(() => { waiting = 0; progress(); }, 120);
}

function received(job, line) {
  soon();
  if (line.problem) return failed(job, line.problem.detail);
  if (line.started) return started(job, line.started);
  const open = job.open;
  if (line.study) {
    Object.assign(open.volume, { record: { ...line.study, study: open.name }, judged: line.judged });
    if (open.volume.follow) open.at = line.study.findings?.[0]?.best_slice ?? Math.floor(open.volume.slices / 2);
    job.open = null;
    return tell("answered", open);
  }
  job.done += 1;
  job.total = Math.max(job.total, job.done);
  const slice = sliceOf(line);
  if (!open) {
    const entry = added(nameOf(job, line.record.image));
    entry.slices.push(slice);
    return tell("answered", entry);
  }
  open.slices[slice.record.frame] = { ...slice, record: { ...slice.record, study: open.name } };
  if (open.volume.follow) open.at = slice.record.frame;
  return tell("answered", open);
}

function started(job, { study, slices, file }) {
  const several = job.volumes > 0;
  job.volumes += 1;
  // DICOM files were counted before; those that are no slices of it (scouts, copies) come at the end or not at all.
  job.total = job.files.length > 1 ? job.total : job.done + slices;
  const name = job.files.length > 1 ? (several ? `${job.name}, ${study}` : job.name) : nameOf(job, file);
  job.open = added(name, { slices, record: null, judged: true, unfinished: false, follow: true });
  return tell("answered", job.open);
}

/** Of a file the server knows the name alone, of an archive also what is in it. */
function nameOf(job, image) {
  const one = job.files.find(({ file }) => file.name === image);
  return one ? one.path : image;
}

function ended(job, detail) {
  if (!job.open) return;
  job.open.volume.unfinished = true;
  job.open.detail = detail;
  tell("answered", job.open);
  job.open = null;
}

function failed(job, detail) {
  if (job.open) return ended(job, detail);
  const entry = added(job.name);
  entry.detail = detail;
  entry.slices.push(sliceOf({ record: { image: job.name, error: detail }, judged: false }));
  job.done = job.total;
  return tell("answered", entry);
}

function progress() {
  $("stop").disabled = !busy();
  const total = work.jobs.reduce((sum, job) => sum + job.total, 0);
  const done = work.jobs.reduce((sum, job) => sum + job.done, 0);
  $("bar").value = total ? done / total : 0;
  if (!total) return;
  const seconds = (performance.now() - work.begun) / 1000;
  const left = Math.ceil((seconds / Math.max(1, done)) * (total - done));
  const waits = [...work.running].some((job) => job.waits);
  const time = !busy() ? "" : waits ? ", waiting for the work of others" : done > 2 ? `, about ${left} s left` : ", working";
  const flagged = entries.filter((entry) => flagsOf(entry).length).length;
  say(`${done} of ${counted(total, "slice")} done${time}; ${flagged} of ${entries.length} flagged.`, !busy());
}

/** The activation map of a slice: its picture is sent again, and explained by the model. */
export async function explained(slice, signal) {
  const body = new FormData();
  body.append("files", slice.blob, "slice.png");
  const answer = await fetched("/page/explain", { method: "POST", body, signal });
  if (!answer) throw new Error("the server asks for its token first");
  if (answer.status === 429) {
    await pause(Number(answer.headers.get("Retry-After")) || 1, signal);
    return explained(slice, signal);
  }
  const made = await answer.json();
  if (!answer.ok) throw new Error(made.detail);
  return { ...made, layer: await createImageBitmap(new Blob([bytesOf(made.png)], { type: "image/png" })) };
}
