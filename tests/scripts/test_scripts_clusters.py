"""The recipes for clusters: what can be seen of them without one (docs/guides/clusters.md says what was tried)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "docs" / "examples" / "clusters"
FLAGS = (Path(__file__).parents[1] / "golden" / "cli_flags.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["train.sbatch", "train-job.yaml"])
def test_flags_of_the_commands_exist(name: str) -> None:
    command = (
        (FOLDER / name).read_text(encoding="utf-8").partition("detectclf\n" if "yaml" in name else "-m detectclf")[2]
    )
    used = set(re.findall(r"(?<![\w-])--([a-z-]+)", command))
    assert used >= {"out", "resume"}
    assert all(f"--{flag}" in FLAGS for flag in used), used


def test_the_batch_script_is_a_script() -> None:
    done = subprocess.run(["bash", "-n", str(FOLDER / "train.sbatch")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = (FOLDER / "train.sbatch").read_text(encoding="utf-8").splitlines()
    last = max(number for number, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[: last + 1]), "sbatch reads its options above the first command"


def test_the_pods_of_the_job_find_one_another() -> None:
    service, job = yaml.safe_load_all((FOLDER / "train-job.yaml").read_text(encoding="utf-8"))
    name, spec = job["metadata"]["name"], job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"]
    assert f"--rdzv-endpoint={name}-0.{service['metadata']['name']}:29500" in container["command"]
    assert f"--nnodes={spec['completions']}" in container["command"]
    assert spec["completions"] == spec["parallelism"], "torchrun waits for all"
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--nproc-per-node={gpus}" in container["command"]
