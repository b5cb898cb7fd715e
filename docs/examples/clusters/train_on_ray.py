"""Trains on a Ray cluster by Ray Train: the training of the command line, in as many processes as are asked for.

python train_on_ray.py classifier /shared/clean /shared/runs/classifier --workers 2 [--gpu] [--set KEY=VALUE]...
"""

import argparse
import os
from pathlib import Path

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def train_here(job):
    """In each process; Ray has set RANK, WORLD_SIZE and the like, as torchrun does."""
    from detectclf.config import ClassifierRecipe, DetectorRecipe
    from detectclf.pipelines.train import train
    from detectclf.recipes import load_recipe

    kind = {"classifier": ClassifierRecipe, "detector": DetectorRecipe}[job["stage"]]
    recipe = load_recipe(kind, None, job["set"], {"data.sources": [job["data"]]})
    train(job["stage"], recipe, Path(job["out"]), resume=True, quiet=True)


def main():
    """Starts the training and waits for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["classifier", "detector"])
    parser.add_argument("data")
    parser.add_argument("out", type=os.path.abspath)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    job = vars(parser.parse_args())
    ray.init(address=os.environ.get("RAY_ADDRESS"))
    TorchTrainer(
        train_here,
        train_loop_config=job,
        scaling_config=ScalingConfig(num_workers=job["workers"], use_gpu=job["gpu"]),
        # A worker that dies ends the others; they all start again, from the last checkpoint.
        run_config=RunConfig(storage_path=f"{job['out']}-ray", failure_config=FailureConfig(max_failures=20)),
    ).fit()


if __name__ == "__main__":
    main()
