"""Settings of earlier versions are read under their present names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from detectclf.config import BundleConfig, BundleRecipe, ClassifierRecipe, DataConfig
from detectclf.errors import ConfigError
from detectclf.recipes import load_recipe

OLD = {
    "augment.healthy_half": ("augment.symmetry_healthy", 0.2),
    "augment.tumor_half": ("augment.symmetry_tumor", 0.3),
    "bundle.mirror": ("bundle.tta", True),
    "data.faults": ("data.faults", "mend"),
}


@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("given", ["assignment", "recipe"])
def test_old_names_of_settings_are_read(old: str, given: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    new, value = OLD[old]
    kind = BundleRecipe if old.startswith("bundle") else ClassifierRecipe
    section, name = old.split(".")
    file = tmp_path / "old.yaml"
    file.write_text(f"{section}: {{{name}: {json.dumps(value)}}}\n")
    if given == "recipe":
        read = load_recipe(kind, str(file))
    else:
        read = load_recipe(kind, None, [f"{old}={json.dumps(value)}"])
    part, field = new.split(".")
    assert getattr(getattr(read, part), field) == ("fix" if value == "mend" else value)
    assert [r for r in caplog.records if "is now called" in r.message], "the user learns the new name"


@pytest.mark.parametrize("old", [name for name in OLD if OLD[name][0] != name])
def test_a_later_layer_overrides_an_old_name(old: str, tmp_path: Path) -> None:
    new, value = OLD[old]
    kind = BundleRecipe if old.startswith("bundle") else ClassifierRecipe
    section, name = old.split(".")
    file = tmp_path / "old.yaml"
    file.write_text(f"{section}: {{{name}: {json.dumps(value)}}}\n")
    part, field = new.split(".")
    other: object = False if value is True else 0.0
    for key in (old, new):
        read = load_recipe(kind, str(file), [f"{key}={json.dumps(other)}"])
        assert getattr(getattr(read, part), field) == other, key


def test_a_setting_under_both_names_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "both.yaml"
    file.write_text("bundle: {mirror: true, tta: false}\n")
    with pytest.raises(ConfigError, match=r"bundle\.tta is given by its former name, too"):
        load_recipe(BundleRecipe, str(file))
    with pytest.raises(ValidationError, match="former name"):
        BundleConfig.model_validate({"mirror": True, "tta": False})


def test_present_names_are_read_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    assert load_recipe(BundleRecipe, None, ["bundle.tta=true"]).bundle.tta
    assert DataConfig(faults="fix").faults == "fix" and not caplog.records
