// Elements and text. Names of files and all that the server says become text, never markup.

export const $ = (id) => document.getElementById(id);
export const settings = JSON.parse(document.body.dataset.settings);
export const classes = Object.keys(settings.colors);
export const DASHES = [[], [12, 7], [3, 5], [14, 5, 3, 5]]; // a line style per class, since colour alone would not do

export function make(tag, text, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  if (text !== undefined) element.textContent = text;
  return element;
}

export const percent = (share) => (share === null || share === undefined ? "" : `${(100 * share).toFixed(1)}\u00a0%`);
export const words = (name) => name.replaceAll("_", " ");
export const counted = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
export const styleOf = (name) => Math.max(0, classes.indexOf(name)) % DASHES.length;
export const colorOf = (name) => `rgb(${(settings.colors[name] || [187, 187, 187]).join(",")})`;
export const listed = (flags) => flags.map(words).join(", ");

function swatch(name) {
  const element = make("span", undefined, { className: `swatch style${styleOf(name)}` });
  element.style.borderColor = colorOf(name);
  element.setAttribute("aria-hidden", "true");
  return element;
}

export function labelled(name) {
  const cell = make("th", undefined, { scope: "row" });
  cell.append(swatch(name), words(name));
  return cell;
}

/** Shows `text` beside the bar; screen readers hear it at most every few seconds, and at once where it is `urgent`. */
export function say(text, urgent = true) {
  $("work").hidden = false;
  $("state").textContent = text;
  if (urgent || performance.now() - say.heard > 8000) hear(text);
}

/** For screen readers alone. */
export function hear(text) {
  say.heard = performance.now();
  $("heard").textContent = text;
}
say.heard = 0;
