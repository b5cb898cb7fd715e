"""``detectclf data ...`` through the command line."""

from __future__ import annotations

import os

from PIL import Image


def test_the_audit_exits_3_for_an_unsafe_image_and_reports_the_rest(cli, tmp_path):
    (tmp_path / "train/glioma").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "train/glioma/black.png")
    os.mkfifo(tmp_path / "train/glioma/pipe.png")
    said = cli("data", "check", tmp_path, "--json")
    assert said.code == 3
    assert {"unsafe", "all_black"} <= {p["code"] for p in said.document["problems"]}


def test_check_with_a_model_lists_suspect_labels(cli, trained, tmp_path):
    sheet = tmp_path / "sheet.png"
    said = cli("data", "check", trained.data, "--model", trained.bundle, "--sheet", sheet, "--json")
    assert said.code == 0, said.err
    suspects = said.document["suspects"]
    assert suspects, "a model of one epoch contradicts some label"
    assert set(suspects[0]) == {"file", "kind", "suspicion", "label", "said", "detail", "unseen"}
    assert [s["suspicion"] for s in suspects] == sorted((s["suspicion"] for s in suspects), reverse=True)
    assert sheet.is_file() and (tmp_path / "sheet.suspects.png").is_file()
    text = cli("data", "check", trained.data, "--model", trained.bundle)
    assert "suspect labels of 24 slices" in text.out


def test_check_with_a_folder_that_is_no_bundle(cli, trained, tmp_path):
    said = cli("data", "check", trained.data, "--model", tmp_path)
    assert said.code == 2 and said.err.count("\n") == 1 and "not a bundle" in said.err
