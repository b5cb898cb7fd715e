"""JSON annotation files: every object knows the line that it starts in."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from detectclf.formats.faults import Faults
from detectclf.formats.json_text import Record, read_json

json_values = st.recursive(
    st.text(max_size=6) | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(json_values, st.sampled_from([None, 0, 2]), st.booleans())
def test_every_object_of_a_json_file_knows_its_line(value: object, indent: int | None, ascii: bool) -> None:
    numbers = iter(range(1_000))

    def numbered(part: object) -> object:
        """Each object gets a first key that says which it is, found again in the text."""
        if isinstance(part, dict):
            return {"@": f"object-{next(numbers)}", **{f"_{key}": numbered(each) for key, each in part.items()}}
        return [numbered(each) for each in part] if isinstance(part, list) else part

    def records(part: object) -> list[Record]:
        inner = part.values() if isinstance(part, Record) else part if isinstance(part, list) else []
        return [part] * isinstance(part, Record) + [r for each in inner for r in records(each)]

    text = json.dumps(numbered(value), indent=indent, ensure_ascii=ascii)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        found = read_json(path, Faults(Path(folder)), Path(folder))
    for record in records(found):
        before = text[: text.index(f'"{record["@"]}"')]
        brace = before.rindex("{")
        assert record.line == text[:brace].count("\n") + 1
