"""Settings of earlier versions are read under their present names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from detectclf.config import AugmentConfig, ClassifierRecipe, DataConfig
from detectclf.errors import ConfigError
from detectclf.recipes import load_recipe

OLD = {
    "augment.healthy_half": ("augment.symmetry_healthy", 0.2),
    "augment.tumor_half": ("augment.symmetry_tumor", 0.3),
    "data.faults": ("data.faults", "mend"),
}


@pytest.mark.parametrize("old", OLD)
@pytest.mark.parametrize("given", ["assignment", "recipe"])
def test_old_names_of_settings_are_read(old: str, given: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    new, value = OLD[old]
    section, name = old.split(".")
    file = tmp_path / "old.yaml"
    file.write_text(f"{section}: {{{name}: {json.dumps(value)}}}\n")
    if given == "recipe":
        read = load_recipe(ClassifierRecipe, str(file))
    else:
        read = load_recipe(ClassifierRecipe, None, [f"{old}={json.dumps(value)}"])
    part, field = new.split(".")
    assert getattr(getattr(read, part), field) == ("fix" if value == "mend" else value)
    assert [r for r in caplog.records if "is now called" in r.message], "the user learns the new name"


@pytest.mark.parametrize("old", [name for name in OLD if OLD[name][0] != name])
def test_a_later_layer_overrides_an_old_name(old: str, tmp_path: Path) -> None:
    new, value = OLD[old]
    section, name = old.split(".")
    file = tmp_path / "old.yaml"
    file.write_text(f"{section}: {{{name}: {json.dumps(value)}}}\n")
    part, field = new.split(".")
    other = 0.0
    for key in (old, new):
        read = load_recipe(ClassifierRecipe, str(file), [f"{key}={json.dumps(other)}"])
        assert getattr(getattr(read, part), field) == other, key


def test_a_setting_under_both_names_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "both.yaml"
    file.write_text("augment: {healthy_half: 0.1, symmetry_healthy: 0.2}\n")
    with pytest.raises(ConfigError, match=r"augment\.symmetry_healthy is given by its former name, too"):
        load_recipe(ClassifierRecipe, str(file))
    with pytest.raises(ValidationError, match="former name"):
        AugmentConfig.model_validate({"healthy_half": 0.1, "symmetry_healthy": 0.2})


def test_present_names_are_read_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    assert load_recipe(ClassifierRecipe, None, ["augment.symmetry_tumor=0.5"]).augment.symmetry_tumor == 0.5
    assert DataConfig(faults="fix").faults == "fix" and not caplog.records
