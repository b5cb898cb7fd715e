"""Class and boxes of a picture from an export, without detectclf: read_export.py EXPORT PICTURE prints JSON."""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
from PIL import Image, ImageOps

folder, picture = Path(sys.argv[1]), sys.argv[2]
model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
fusion, classes, negative = model["fusion"], model["classes"], model["negative"]
grey = np.asarray(ImageOps.exif_transpose(Image.open(picture)).convert("L"))
height, width = grey.shape  # a picture more than 1.5 times longer than wide is cropped first, see "crop"


def weights(old, new, shrink):  # (new, old): share of each old pixel in each new one
    edges, pixels = np.linspace(0, old, new + 1)[:, None], np.arange(old)
    middles = np.clip((edges[:-1] + edges[1:]) / 2 - 0.5, 0, old - 1)
    covered = np.minimum(edges[1:], pixels + 1) - np.maximum(edges[:-1], pixels)
    shares = np.clip(covered if shrink else 1 - abs(middles - pixels), 0, None)
    return shares / shares.sum(1, keepdims=True)


def log_odds(score):
    return -np.log(1 / np.clip(score, fusion["score_floor"], 1 - fusion["score_floor"]) - 1)


def run(kind):
    size = model["graphs"][kind]["size"]
    scale, padded = size / max(grey.shape), np.zeros((1, 1, size, size), np.uint8)
    h, w = (max(1, round(side * scale)) for side in grey.shape)
    padded[0, 0, :h, :w] = np.rint(weights(height, h, scale < 1) @ grey @ weights(width, w, scale < 1).T)
    graph = openvino.compile_model(folder / model["graphs"][kind]["file"], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return scale, {output.any_name: value[0] for output, value in graph(padded).items()}


scale, found = run("detector")
logits = run("classifier")[1]["logits"] / fusion["temperature"]  # log_softmax would shift all classes alike
boxes = (found["boxes"] / scale).clip(0, [width, height, width, height])
labels, scores, tumours = found["labels"], found["scores"], model["detector_classes"]
evidence = {c: log_odds(scores[labels == i].max(initial=0)) for i, c in enumerate(tumours)}
absence = -max(own for c, own in evidence.items() if c != negative)  # the log-odds of 1 - score
evidence[negative] = (evidence.get(negative, absence) + absence) / 2
votes = np.array([evidence.get(c, 0) for c in classes])
z = np.exp(fusion["class_weight"] * logits + fusion["box_weight"] * votes + fusion["bias"])
rows = [
    {"class": tumours[labels[i]], "score": float(scores[i]), "xyxy": boxes[i].tolist()} for i in np.nonzero(scores)[0]
]
print(json.dumps({"probabilities": {c: z[i] / z.sum() for i, c in enumerate(classes)}, "boxes": rows}))
