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
