// Draws a slice: window and level, the activation map over it, boxes with a line style and a label each.
import { colorOf, DASHES, make, percent, styleOf, words } from "./dom.js";
import { sure } from "./entries.js";

const SHOWN_SIDE = 1024;
export const PLAIN = { window: 255, level: 127, boxes: true, heat: 0 };

/** The pixels of a slice as they came. */
export async function pixelsOf(slice) {
  const bitmap = await createImageBitmap(slice.blob);
  const canvas = make("canvas", undefined, { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

/** Draws `slice` on `canvas`; `how` has window, level, boxes (whether) and heat (opacity, 0 to 1). */
export function draw(canvas, slice, pixels, how) {
  const levels = Uint8ClampedArray.from({ length: 256 }, (_, v) => (255 * (v - how.level + how.window / 2)) / how.window);
  const shaded = make("canvas", undefined, { width: pixels.width, height: pixels.height });
  const copy = new ImageData(pixels.data.map((v, i) => (i % 4 === 3 ? 255 : levels[v])), pixels.width, pixels.height);
  shaded.getContext("2d").putImageData(copy, 0, 0);
  const scale = Math.max(1, Math.min(4, SHOWN_SIDE / Math.max(pixels.width, pixels.height)));
  canvas.width = Math.round(pixels.width * scale);
  canvas.height = Math.round(pixels.height * scale);
  const context = canvas.getContext("2d");
  context.drawImage(shaded, 0, 0, canvas.width, canvas.height);
  if (how.heat && slice.heat) {
    context.globalAlpha = how.heat;
    context.drawImage(slice.heat.layer, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = 1;
  }
  if (how.boxes) sure(slice).forEach((box) => drawBox(context, box, canvas.width / slice.record.width));
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
  context.setLineDash([]);
  context.font = `${11 * unit}px system-ui, sans-serif`;
  const label = `${words(box.class)} ${percent(box.score)}`;
  const wide = context.measureText(label).width + 6 * unit;
  const x = Math.max(0, Math.min(left, context.canvas.width - wide));
  const y = top > 16 * unit ? top - 16 * unit : Math.min(bottom + 1 * unit, context.canvas.height - 15 * unit);
  context.fillStyle = "rgba(0,0,0,.8)";
  context.fillRect(x, y, wide, 15 * unit);
  context.fillStyle = "#fff";
  context.fillText(label, x + 3 * unit, y + 11.5 * unit);
}

/** A picture of a slice as PNG, with a line of text below it. */
export async function pictureOf(slice, how, text) {
  const drawn = make("canvas");
  draw(drawn, slice, await pixelsOf(slice), how);
  const unit = drawn.width / 400;
  const canvas = make("canvas", undefined, { width: drawn.width, height: drawn.height + Math.round(30 * unit) });
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(drawn, 0, 0);
  context.fillStyle = "#fff";
  context.font = `${10 * unit}px system-ui, sans-serif`;
  context.fillText(text, 4 * unit, drawn.height + 12 * unit, drawn.width - 8 * unit);
  context.fillText("Research use, not for diagnosis", 4 * unit, drawn.height + 25 * unit, drawn.width - 8 * unit);
  return new Promise((given) => canvas.toBlob(given, "image/png"));
}
