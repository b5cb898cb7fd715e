// The page of `detectclf serve`: what people do on it.
import { $, counted, say } from "./dom.js";
import { emptied, entries, view } from "./entries.js";
import { sliceAt } from "./curve.js";
import { asBoxesCsv, asCsv, asJson, save, savePicture, savePictures } from "./downloads.js";
import { chosen, dropped, jobsOf } from "./intake.js";
import { list, sortBy } from "./list.js";
import { busy, enqueue, fetched, stop, unlock } from "./requests.js";
import { askForMap, how, redraw, step, turn } from "./view.js";

const EXAMPLES = ["meningioma", "glioma", "pituitary", "no_tumor"];
let examples = 0;

async function take(found) {
  const { jobs, left } = await jobsOf(found);
  if (!jobs.length) say(left ? `No picture among ${counted(left, "file")}.` : "There was no file.");
  else enqueue(jobs);
}

const on = (id, event, action) => $(id).addEventListener(event, action);
for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
  on(button, "click", () => $(input).click());
  on(input, "change", () => {
    take(chosen($(input)));
    $(input).value = "";
  });
}
on("example", "click", async () => {
  const kind = EXAMPLES[examples % EXAMPLES.length];
  const answer = await fetched(`/page/example/${kind}`).catch(() => undefined);
  if (answer === null) return undefined;
  if (!answer?.ok) return say("There is no example: the server refused, or cannot be reached.");
  examples += 1;
  const name = `drawn ${kind.replace("_", " ")} ${examples}.png`;
  return take([{ file: new File([await answer.blob()], name, { type: "image/png" }), path: name }]);
});
on("login", "submit", (event) => {
  event.preventDefault();
  unlock($("token").value.trim());
});
on("stop", "click", stop);
on("clear", "click", () => {
  stop();
  emptied();
  list();
  say("Cleared.");
});

on("previous", "click", () => step(-1));
on("next", "click", () => step(1));
for (const id of ["boxes", "window", "level", "opacity"]) on(id, "input", redraw);
on("map", "input", () => askForMap());
on("reset", "click", () => {
  $("window").value = 255;
  $("level").value = 127;
  redraw();
});
on("slice", "input", () => turn(Number($("slice").value)));
on("curve", "pointerdown", (event) => turn(sliceAt(view.current, event)));
on("curve", "pointermove", (event) => event.buttons && turn(sliceAt(view.current, event)));
on("save", "click", () => savePicture(how()));

on("filter", "change", list);
on("search", "input", list);
on("json", "click", () => save(asJson(), "application/json", "predictions.json"));
on("csv", "click", () => save(asCsv(), "text/csv", "predictions.csv"));
on("boxes-csv", "click", () => save(asBoxesCsv(), "text/csv", "boxes.csv"));
on("pictures", "click", savePictures);
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => sortBy(button.dataset.sort));
}

document.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
  const writing = event.target.closest?.("input:not([type=checkbox]), select, textarea, .scroll:focus");
  if (!by || writing || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey || !view.shown.length) return;
  event.preventDefault();
  const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
  if (sideways && view.current?.volume) turn(view.current.at + by);
  else step(by);
});
addEventListener("beforeunload", (event) => { if (busy()) event.preventDefault(); });
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  dropped(event.dataTransfer).then(take, () => say("Some of what was dropped cannot be read; choose the files instead."));
});
document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  const named = (file, i) => (file.name === "image.png" ? `pasted ${entries.length + i + 1}.png` : file.name);
  if (files.length) take(files.map((file, i) => ({ file, path: named(file, i) })));
});
