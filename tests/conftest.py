"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real slices and weights; tests that need it skip without it."""
    folder = Path(os.environ.get("DETECTCLF_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip("real slices are not here (DETECTCLF_SHARED)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps tests, and the commands that they start, out of the user's cache of slices and key of patients."""
    os.environ["DETECTCLF_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["DETECTCLF_PATIENT_KEY"] = "a key for tests only"
