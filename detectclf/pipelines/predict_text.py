"""What ``predict`` prints: a line for each result, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from detectclf.drawing.panel import CROP_ADVICE
from detectclf.errors import one_line
from detectclf.pipelines.predict_types import Predicted
from detectclf.prediction import Prediction

if TYPE_CHECKING:
    from detectclf.inference.studies import Study


def where(done: Predicted, *, visualize: bool, format: str) -> str:
    """Where records, boxes and pictures lie, a line each."""
    if done.file is None:
        return "no predictions were written: nothing could be read"
    lines = [f"predictions: {done.file}"]
    beside = {"csv": ("boxes", "boxes.csv"), "yolo": ("labels", "labels")}.get(format)
    if beside is not None and (place := Path(done.file).parent / beside[1]).exists():
        lines.append(f"{beside[0]}: {place}")
    if visualize:
        lines.append(f"pictures: {done.page or Path(done.file).parent / '*.pred.png'}")
    if done.studies is not None:
        lines.append(f"studies: {done.studies}")
    return "\n".join(lines)


def describe(result: Prediction | Study) -> str:
    """A prediction or study that could be read as one line of text, whatever characters the file name has."""
    from detectclf.inference.studies import Study

    if isinstance(result, Study):
        return _describe_study(result)
    return _describe_prediction(result)


def _describe_prediction(prediction: Prediction) -> str:
    boxes = [
        f"{label} {score:.2f} at ({', '.join(f'{v:.0f}' for v in box)})"
        for box, label, score in zip(prediction.boxes_xyxy, prediction.box_labels, prediction.scores, strict=True)
        if score >= prediction.box_threshold
    ]
    flags = f" [{', '.join(prediction.flags)}]" if prediction.flags else ""
    if prediction.confidence is None:
        # A slice of a volume is no screen.
        result = "refused" if prediction.origin.study else f"refused; if it is a screen or a page, {CROP_ADVICE}"
    else:
        result = f"{prediction.label} {prediction.confidence:.3f}{_why(prediction)}; {'; '.join(boxes) or 'no box'}"
    part = f" ({prediction.part})" if prediction.part else ""
    return one_line(f"{prediction.image}{part}: {result}{flags}")


def _why(prediction: Prediction) -> str:
    """Why the class is not the likeliest of all: a tumour is called by the probability of all its kinds together."""
    likeliest = max(prediction.probabilities, key=lambda name: prediction.probabilities[name])
    if likeliest == prediction.label:
        return ""
    share = prediction.probabilities[likeliest]
    return f" (called a tumour: {1 - share:.3f} for all kinds together, {likeliest} {share:.3f})"


def _describe_study(study: Study) -> str:
    findings = []
    for finding in study.findings:
        first, last = finding.slices
        extent = study.extent_mm(finding)
        size = "" if extent is None else f", {' x '.join(f'{side:.0f}' for side in extent)} mm"
        findings.append(f"{finding.label} {finding.score(study.agree):.2f} on slices {first} to {last}{size}")
    flags = f" [{', '.join(study.flags)}]" if study.flags else ""
    told = "refused"
    if study.confidence is not None:
        told = f"{study.label} {study.confidence:.3f}; {'; '.join(findings) or 'no finding'}"
    return one_line(f"{study.name}, {study.slices} slices together: {told}{flags}")


__all__ = ["describe", "where"]
