"""The packaged model: its size, its card, and that it flags pictures that are not brain MRIs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detectclf.inference.loading import default_bundle, load
from detectclf.inference.predictor import Predictor
from detectclf.models.bundle_arrays import OOD_FILE
from detectclf.models.map_fit import MEASURED, NOT_MEASURED, measured_fit

MOST_BYTES = 25 * 2**20
MOST_NOVELTY_BYTES = 2**20


@pytest.fixture(scope="module")
def model() -> Predictor:
    return load(device="cpu")


def test_it_is_small_enough_to_ship() -> None:
    files = [f for f in default_bundle().rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= MOST_BYTES
    assert (default_bundle() / OOD_FILE).stat().st_size <= MOST_NOVELTY_BYTES


def test_its_card_states_data_licences_figures_and_limits() -> None:
    card = (default_bundle() / "MODEL_CARD.md").read_text(encoding="utf-8")
    for words in ("CC BY 4.0", "Apache-2.0", "new patients", "Not a medical device", "95 % interval"):
        assert words in card, f"the card does not say {words!r}"


def test_its_maps_are_captioned_with_what_was_measured_wherever_they_are_spoken_of(model: Predictor) -> None:
    said = measured_fit(model.bundle.metadata)
    assert said != NOT_MEASURED and model.bundle.metadata[MEASURED]["peak_inside_box"] >= 0.7
    guide = Path(__file__).parents[2] / "docs" / "guides" / "prediction.md"
    card = default_bundle() / "MODEL_CARD.md"
    for file in (guide, card):
        assert said in file.read_text(encoding="utf-8").replace("\n", " "), file.name


def others() -> dict[str, np.ndarray]:
    """Pictures of something else: from installed packages, and made here."""
    data = pytest.importorskip("skimage.data")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    photographs = ("astronaut", "camera", "coffee", "coins", "moon", "retina", "rocket")
    pictures = {name: getattr(data, name)() for name in (*photographs, "immunohistochemistry", "page", "text")}
    pictures["face"] = (data.lfw_subset()[0] * 255).astype(np.uint8)
    pictures["noise"] = rng.integers(0, 256, (256, 256), dtype=np.uint8)
    pictures["blank"] = np.full((256, 256), 90, dtype=np.uint8)
    pictures["black"] = np.zeros((256, 256), dtype=np.uint8)
    pictures["gradient"] = x.astype(np.uint8)
    pictures["checks"] = (((x // 32 + y // 32) % 2) * 255).astype(np.uint8)
    return pictures


def test_other_pictures_are_refused(model: Predictor) -> None:
    wrong = []
    for name, pixels in others().items():
        said = model.predict(Image.fromarray(pixels).convert("RGB"))
        if said.flags != ("not_a_brain_mri",) or said.label is not None or said.probabilities or len(said.scores):
            wrong.append((name, said.label, said.flags))
    assert wrong == []


def test_real_slices_are_not_flagged(model: Predictor, shared: Path) -> None:
    files = sorted((shared / "data" / "boxed" / "valid").glob("*.jpg"))[::40]
    flagged = [f.name for f in files if "not_a_brain_mri" in model.predict(f).flags]
    assert len(flagged) <= 1
