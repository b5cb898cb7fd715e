#!/usr/bin/env python
"""Records in a bundle how well its activation maps fit tumours, so that they are captioned with what was measured.

    detectclf evaluate --explain --data DATA --split valid --detector DEV --classifier DEV --out REPORT
    python scripts/record_maps.py REPORT/report.json BUNDLE

The figures are those of new patients. The model card of the bundle says them, too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from detectclf.evaluation.model_card import CARD_FILE, explained
from detectclf.files import atomic_write
from detectclf.models.bundle import BUNDLE_FILE
from detectclf.models.map_fit import MEASURED


def main() -> None:
    """Adds the figures of a report to ``bundle.json`` and the card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="report.json of `evaluate --explain`")
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    chosen = parser.parse_args()
    file, card = chosen.bundle / BUNDLE_FILE, chosen.bundle / CARD_FILE
    try:
        found = json.loads(chosen.report.read_text(encoding="utf-8"))["new_patients"]["explanation"]
        content, text = json.loads(file.read_text(encoding="utf-8")), card.read_text(encoding="utf-8")
        before = explained(content["facts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"report or bundle cannot be read ({type(error).__name__}: {error})")
    if not found or found["peak_inside_box"] is None:
        parser.error(f"{chosen.report}: has no maps of new patients; evaluate with --explain on slices of such")
    if before not in text:
        parser.error(f"{card}: does not say what the bundle says of its maps ({before!r}); make the bundle again")
    content["facts"][MEASURED] = {key: found[key] if key == "slices" else round(found[key], 4) for key in found}
    atomic_write(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    atomic_write(card, text.replace(before, explained(content["facts"])))


if __name__ == "__main__":
    main()
