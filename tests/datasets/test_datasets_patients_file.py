"""The patients file: every table that a person or a spreadsheet writes, and one line for what is wrong with it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectclf.datasets.patients_file import PatientRow, assign, read_patients
from detectclf.errors import DataError, UnsafeError
from detectclf.files import ByteSpan
from detectclf.pseudonyms import pseudonym
from detectclf.types import Sample


def sample(path: str, split: str = "train", source: str = "data", name: str | None = None) -> Sample:
    return Sample(Path(source, path), name or Path(path).name, split, None, source=source)


def row(file: str, patient: str, line: int) -> tuple[str, str, int]:
    return file, patient, line


TWO = [row("a.jpg", "P1", 2), row("b.jpg", "P2", 3)]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b"file,patient\na.jpg,P1\nb.jpg,P2\n", TWO),
        (b"\xef\xbb\xbffile,patient\r\na.jpg,P1\r\nb.jpg,P2\r\n", TWO),  # UTF-8 with a BOM, lines of Windows
        ("file,patient\na.jpg,P1\nb.jpg,P2\n".encode("utf-16"), TWO),  # with a BOM
        ("file,patient\na.jpg,P1\nb.jpg,P2\n".encode("utf-16-le"), TWO),  # without
        ("file,patient\na.jpg,P1\nb.jpg,P2\n".encode("utf-16-be"), TWO),
        (b"file;patient\na.jpg;P1\nb.jpg;P2\n", TWO),  # a spreadsheet in German or French
        (b"file\tpatient\na.jpg\tP1\nb.jpg\tP2\n", TWO),
        (b" Patient , x ,FILE\n P1 ,1, a.jpg \nP2,,b.jpg", TWO),  # order, case, blanks, other columns, no last line end
        (b'"file","patient"\n"a.jpg","P1"\n"b.jpg","P2"\n', TWO),
        (b"file,patient\na.jpg,P1\n\n , \nb.jpg,P2\n\n", [TWO[0], row("b.jpg", "P2", 5)]),  # blank lines
        (b"file,patient\na.jpg,P1\nc.jpg,\nd.jpg\ne.jpg,unknown\nb.jpg,P2\n", [TWO[0], row("b.jpg", "P2", 6)]),
        (b"file,patient\na.jpg,P1\na.jpg,P1\nb.jpg,P2\n", [TWO[0], row("a.jpg", "P1", 3), row("b.jpg", "P2", 4)]),
        ("file,patient\n\u00e4.jpg,M\u00fcller\n".encode("latin-1"), [row("\u00e4.jpg", "M\u00fcller", 2)]),
        (b"file,patient\n\x81.jpg,P1\n", [row("\x81.jpg", "P1", 2)]),  # a byte that Windows-1252 lacks
        (b"file,patient\n", []),
        (b"file,patient\na.jpg,P1,,\nb.jpg,P2, \n", TWO),  # a spreadsheet pads with empty cells
        (b'file,patient\na.jpg,"P""1" \n', [row("a.jpg", 'P"1', 2)]),  # a quote in a text, a blank after one
        ("file,patient\na.jpg,P\u20281\n".encode(), [row("a.jpg", "P\u20281", 2)]),  # ends no line of a table
        (b"file,patient\ra.jpg,P1\rb.jpg,P2\r", TWO),  # lines of an old Mac
        (b"file,patient\na.jpg,figshare-12\n", [row("a.jpg", "figshare-12", 2)]),  # public names pass
    ],
)
def test_tables_of_all_kinds_are_read(content: bytes, rows: list[tuple[str, str, int]], tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_bytes(content)
    assert read_patients(path) == [PatientRow(file, str(pseudonym(patient)), line) for file, patient, line in rows]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"name,patient\na.jpg,P1\n", ":1: has no column 'file' in its first line"),
        (b"\n\nfile,id\na.jpg,P1\n", ":3: has no column 'patient' in its first line"),
        (b"file,file,patient\na,b,P1\n", ":1: has several columns 'file'"),
        (b"a.jpg,Hans Muster\nb.jpg,P2\n", ":1: has no column 'file'"),  # no first line with names
        (b"file,patient\na.jpg,P1\na.jpg,Hans Muster\n", ":3: a.jpg has another patient than in line 2"),
        (b"file,patient\na.jpg,P1\n,Hans Muster\n", ":3: has a patient but no file"),
        (b'file,patient\na.jpg,"' + b"Hans Muster" * 20_000 + b'"\n', "not a table"),  # longer than any cell
        # A quote that is not closed would swallow the next lines, up to the next quote or to the end.
        (b'file,patient\na.jpg,"Hans Muster\nb.jpg,P2\n', ":2: has a quote that is not closed in its line"),
        (b'file,patient\na.jpg,P1\n"b.jpg,P2\nc.jpg,Hans Muster"\n', ":3: has a quote that is not closed"),
        (b'note,file,patient\n"x,a.jpg,P1\ny",b.jpg,Muster\n', ":2: has a quote that is not closed"),
        (b'"file,patient\na.jpg,Hans Muster\n', ":1: has a quote that is not closed"),
        (b'file,patient\na.jpg,P1\nb.jpg,"', ":3: has a quote that is not closed"),  # in the last line
        # Cut at its comma, a name would be one of all who share its first part.
        (b"file,patient\na.jpg,Muster, Hans\nb.jpg,Muster, Eva\n", ":2: has 3 cells under 2 columns; put a text"),
        (b"patient;file\nP1;a.jpg\nP2;b.jpg;;Muster\n", ":3: has 4 cells under 2 columns"),
        # With the columns swapped, what stands under file is a patient.
        (b"patient,file\na.jpg,Hans Muster\nb.jpg,Hans Muster\n", ":3: the one in line 3, no name of an image (are"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_file_and_line_and_no_patient(
    content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "patients.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_patients(path)
    text = str(error.value)
    assert message in text and str(path) in text and "; " in text and "Muster" not in text and "\n" not in text


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n", "a picture (PNG)"),
        (b"\xff\xd8\xff\xe0", "a picture (JPEG)"),
        (b"PK\x03\x04", "a workbook (Excel, LibreOffice) or zip file"),  # the table itself, not saved as CSV
        (b"PAR1", "a Parquet file"),
        (bytes(128) + b"DICM", "a DICOM file"),
    ],
)
def test_a_file_of_another_kind_is_called_by_it(tmp_path: Path, start: bytes, kind: str) -> None:
    file = tmp_path / "patients.csv"
    file.write_bytes(start + bytes(64))
    with pytest.raises(DataError) as error:
        read_patients(file)
    assert f"patients.csv: is {kind}, not a table in CSV; write a table with the columns" in str(error.value)


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_patients(tmp_path / "missing.csv")
    with pytest.raises(DataError, match="is a folder"):
        read_patients(tmp_path)
    with pytest.raises(UnsafeError):
        read_patients(Path("/dev/zero"))


CELLS = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufeff"), max_size=12)
NAMES = CELLS.map(lambda text: f"{text.strip()}.jpg")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.dictionaries(NAMES, CELLS, max_size=8),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
    more=CELLS,
)
def test_what_is_written_is_read(
    table: dict[str, str], separator: str, encoding: str, end: str, more: str, tmp_path: Path
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["patient", "more", "file"], *([patient, more, file] for file, patient in table.items())])
    path = tmp_path / "patients.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    expected = {file: name for file, patient in table.items() if (name := pseudonym(patient)) is not None}
    assert {r.file: r.patient for r in read_patients(path)} == expected


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_no_bytes_crash_the_reader(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_bytes(content)
    try:
        read_patients(path)
    except DataError as error:
        assert "\n" not in str(error)


SLICES = [
    sample("train/a.jpg"),
    sample("train/b.jpg"),
    sample("val/a.jpg", "valid"),
    sample("train/images/c.jpg"),
    sample("train/u\u0308.jpg"),
    sample("train/glioma/d.jpg", name="glioma/d.jpg"),
    Sample(Path("data/train/x.tfrecord"), "e.jpg", "train", None, source="data", span=ByteSpan(0, 10)),
]


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("b.jpg", 1),  # a bare name that one slice has
        ("train/a.jpg", 0),
        ("valid/a.jpg", 2),  # by split
        ("val/a.jpg", 2),  # by folder
        ("data/train/a.jpg", 0),
        ("./train/a.jpg", 0),
        ("train\\a.jpg", 0),  # written on Windows
        ("train/c.jpg", 3),  # split and name, whatever folders lie between
        ("train/images/c.jpg", 3),
        ("\u00fc.jpg", 4),  # one letter, two spellings in Unicode
        ("d.jpg", 5),
        ("glioma/d.jpg", 5),
        ("train/e.jpg", 6),  # inside a container
        ("other/a.jpg", None),
        ("B.JPG", 1),  # from a system that does not tell them apart
        ("Train\\A.jpg", 0),
        ("x.tfrecord", None),
    ],
)
def test_a_row_finds_its_slice(file: str, found: int | None) -> None:
    patients, unknown = assign([PatientRow(file, "figshare-1", 2)], SLICES, Path("p.csv"))
    assert patients == ({} if found is None else {found: "figshare-1"})
    assert [row.file for row in unknown] == ([file] if found is None else [])


def test_the_absolute_path_of_a_slice_finds_it() -> None:
    file = str(Path("data/train/a.jpg").absolute())
    assert assign([PatientRow(file, "figshare-1", 2)], SLICES, Path("p.csv"))[0] == {0: "figshare-1"}


def test_a_name_in_several_splits_or_sources_needs_more_of_its_path() -> None:
    with pytest.raises(DataError, match=r"p.csv:2: a.jpg may be data/train/a.jpg or data/valid/a.jpg; .*split/file"):
        assign([PatientRow("a.jpg", "figshare-1", 2)], SLICES, Path("p.csv"))
    two = [sample("train/a.jpg", source="one"), sample("train/a.jpg", source="two")]
    with pytest.raises(DataError, match=r"may be one/train/a.jpg or two/train/a.jpg"):
        assign([PatientRow("train/a.jpg", "figshare-1", 2)], two, Path("p.csv"))
    assert assign([PatientRow("two/train/a.jpg", "figshare-1", 2)], two, Path("p.csv"))[0] == {1: "figshare-1"}


def test_a_name_in_another_case_is_taken_where_one_slice_is_left_for_it() -> None:
    rows = [PatientRow("VALID/A.jpg", "figshare-1", 2), PatientRow("valid/a.jpg", "figshare-2", 3)]
    assert assign(rows, SLICES, Path("p.csv")) == ({2: "figshare-2"}, rows[:1]), "the slice is the other row's"
    with pytest.raises(DataError, match=r"p.csv:2: A.jpg may be data/train/a.jpg or data/valid/a.jpg"):
        assign([PatientRow("A.jpg", "figshare-1", 2)], SLICES, Path("p.csv"))
    with pytest.raises(DataError, match=r"p.csv:3: A.jpg may be"):  # though one of the two has its row
        assign([PatientRow("train/a.jpg", "figshare-1", 2), PatientRow("A.jpg", "b", 3)], SLICES, Path("p.csv"))


def test_two_rows_may_not_give_one_slice_two_patients() -> None:
    rows = [PatientRow("train/a.jpg", "figshare-1", 2), PatientRow("data/train/a.jpg", "figshare-2", 9)]
    with pytest.raises(DataError, match=r"p.csv:9: data/train/a.jpg has another patient than in line 2"):
        assign(rows, SLICES, Path("p.csv"))
    assert assign([rows[0], rows[1]._replace(patient="figshare-1")], SLICES, Path("p.csv"))[0] == {0: "figshare-1"}


@pytest.mark.parametrize(
    ("file", "shown"),
    [
        ("a.jpg", "a.jpg"),
        ("train/A.JPEG", "train/A.JPEG"),
        ("volume.nii.gz", "volume.nii.gz"),
        ("Hans Muster", "the one in line 7"),  # an id under file: the columns are swapped
        ("4711", "the one in line 7"),
        ("Dr. Muster", "the one in line 7"),  # a full stop makes no suffix of an image
        ("IM0001", "the one in line 7"),  # a name of a DICOM file, which could as well be an id
    ],
)
def test_messages_quote_a_name_only_if_it_is_one_of_an_image(file: str, shown: str) -> None:
    row = PatientRow(file, "figshare-1", 7)
    assert row.shown.startswith(shown) and (row.shown == file) == (shown == file)
    two = [sample(f"train/{file}", source=name) for name in ("one", "two")]
    with pytest.raises(DataError) as error:
        assign([row], two, Path("p.csv"))
    assert error.value.reason.startswith(f"{row.shown} may be ")
