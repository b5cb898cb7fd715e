"""The whole way from exports to a report: one plain function per command.

Each takes settings and paths, calls the rooms in order, and returns facts for the command line to print. Heavy
imports happen inside the functions, so that a wrong flag is told of at once.
"""

from detectclf.pipelines.bundling import Stages, bundle
from detectclf.pipelines.combine import Evaluated, Predicted, compare, describe, evaluate, predict
from detectclf.pipelines.train import train_classifier, train_detector, train_refiner

__all__ = [
    "Evaluated",
    "Predicted",
    "Stages",
    "bundle",
    "compare",
    "describe",
    "evaluate",
    "predict",
    "train_classifier",
    "train_detector",
    "train_refiner",
]
