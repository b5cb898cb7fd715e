// Thumbnails and table of all entries: sorted, filtered, the one that is shown marked.
import { $, counted, listed, make, percent, words } from "./dom.js";
import { boxesOf, changes, cover, entries, flagsOf, judged, problem, recordOf, saying, view } from "./entries.js";
import { choose } from "./view.js";

const order = { key: "flags", down: true };
const KEYS = {
  name: (entry) => entry.name,
  class: (entry) => recordOf(entry)?.class || "",
  confidence: (entry) => recordOf(entry)?.confidence ?? -1,
  boxes: (entry) => boxesOf(entry) ?? -1,
  flags: (entry) => flagsOf(entry).length,
};

const redraw = { waiting: 0, took: 0 };
/** Hundreds of answers a minute need not draw the list each by itself; a long list is drawn more seldom. */
function later() {
  if (redraw.waiting) return;
  redraw.waiting = setTimeout(() => {
    const begun = performance.now();
    redraw.waiting = 0;
    list();
    redraw.took = performance.now() - begun;
  }, 120 + 5 * redraw.took);
}

function matches(entry) {
  const filter = $("filter").value;
  const sought = $("search").value.trim().toLowerCase();
  if (sought && !entry.name.toLowerCase().includes(sought)) return false;
  if (filter === "flagged") return flagsOf(entry).length > 0;
  if (filter === "error") return Boolean(problem(entry));
  if (filter === "volumes") return Boolean(entry.volume);
  return filter === "all" || recordOf(entry)?.class === filter.slice("class ".length);
}

export function list() {
  const key = KEYS[order.key];
  const before = (a, b) => {
    const [x, y] = [key(a), key(b)];
    const by = typeof x === "string" ? x.localeCompare(y, undefined, { numeric: true }) : x - y;
    return (order.down ? -by : by) || a.number - b.number;
  };
  const focused = document.activeElement?.dataset?.number;
  const inside = document.activeElement?.closest("#thumbnails, #rows")?.id;
  view.shown = entries.filter(matches).sort(before);
  $("results").hidden = !entries.length;
  $("drop").classList.toggle("small", entries.length > 0);
  $("thumbnails").replaceChildren(...view.shown.map(thumbnail));
  $("rows").replaceChildren(...view.shown.map(row));
  const few = view.shown.length < entries.length ? `${view.shown.length} of ` : "";
  $("list-title").textContent = `Results: ${few}${entries.length}`;
  mark();
  if (inside) document.querySelector(`#${inside} [data-number="${Number(focused)}"]`)?.focus();
}

function opener(entry, text) {
  const button = make("button", text, { type: "button" });
  button.dataset.number = entry.number;
  button.addEventListener("click", () => {
    choose(entry);
    // On a phone the view is above the list, out of sight.
    if ($("picture").getBoundingClientRect().bottom < innerHeight / 4) $("view-title").scrollIntoView();
  });
  return button;
}

function thumbnail(entry) {
  const button = opener(entry);
  const shown = cover(entry);
  const empty = problem(entry) ? "not read" : "…";
  button.append(shown ? make("img", undefined, { src: shown.url, alt: "", loading: "lazy" }) : make("span", empty, { className: "none" }));
  button.append(make("span", entry.name, { className: "name" }));
  if (entry.volume) button.append(make("span", counted(entry.volume.slices, "slice"), { className: "kind" }));
  button.append(make("span", saying(entry)));
  const flags = flagsOf(entry);
  if (flags.length && saying(entry) !== listed(flags)) button.append(make("span", listed(flags), { className: "flag" }));
  const item = make("li");
  item.append(button);
  return item;
}

function row(entry) {
  const cells = make("tr");
  cells.dataset.row = entry.number;
  const name = make("td");
  name.append(opener(entry, entry.name));
  if (entry.volume) name.append(make("span", `volume, ${counted(entry.volume.slices, "slice")}`, { className: "kind" }));
  const record = recordOf(entry);
  const known = record && !problem(entry) && judged(entry);
  const said = problem(entry) || (known ? words(record.class) : saying(entry));
  cells.append(name, make("td", said), make("td", known ? percent(record.confidence) : "", { className: "number" }),
    make("td", String(boxesOf(entry) ?? "")), make("td", listed(flagsOf(entry))));
  return cells;
}

function mark() {
  const number = view.current ? view.current.number : 0;
  for (const button of $("thumbnails").querySelectorAll("button")) {
    button.setAttribute("aria-current", String(Number(button.dataset.number) === number));
  }
  for (const cells of $("rows").children) cells.className = Number(cells.dataset.row) === number ? "now" : "";
}

export function sortBy(key) {
  Object.assign(order, { down: order.key === key ? !order.down : key !== "name", key });
  for (const button of document.querySelectorAll("[data-sort]")) {
    if (button.dataset.sort !== key) button.parentElement.removeAttribute("aria-sort");
    else button.parentElement.setAttribute("aria-sort", order.down ? "descending" : "ascending");
  }
  list();
}

changes.addEventListener("answered", later);
changes.addEventListener("chosen", ({ detail: entry }) => {
  const inside = document.activeElement?.closest("#thumbnails, #rows")?.id;
  mark();
  const where = document.querySelector(`#${inside || "thumbnails"} [data-number="${entry.number}"]`);
  if (inside) where?.focus({ preventScroll: true });
  // Not scrollIntoView, which would scroll the page as well, away from the picture.
  const frame = where?.closest("#thumbnails, .scroll");
  if (!frame) return;
  const [outer, inner] = [frame.getBoundingClientRect(), where.getBoundingClientRect()];
  if (inner.top < outer.top) frame.scrollTop -= outer.top - inner.top + 8;
  if (inner.bottom > outer.bottom) frame.scrollTop += inner.bottom - outer.bottom + 8;
});
