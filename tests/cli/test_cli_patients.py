"""Patients through the command line: every command that reads data takes them, and none prints an id."""

from __future__ import annotations

import json

import pytest

from detectclf.sample_data.export import write_sample_data

ID = "Geheim"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_sample_data(tmp_path_factory.mktemp("patients") / "data", n=24, seed=3)


@pytest.fixture
def table(data, tmp_path):
    """Every slice of six patients, whatever its split."""
    names = [i["file_name"] for f in sorted(data.rglob("*.json")) for i in json.loads(f.read_text())["images"]]
    file = tmp_path / "patients.csv"
    file.write_text("file;patient\n" + "".join(f"{name};{ID}{n % 6}\n" for n, name in enumerate(sorted(set(names)))))
    return file


def test_the_audit_counts_patients_and_leaks(cli, data, table):
    said = cli("data", "check", data, "--patients", table, "--json")
    assert said.code == 0, said.err
    assert said.document["patients"] == {"slices": 24, "unknown": 0, "patients": 6, "from": {"file": 24}}
    assert said.document["patient_leaks"] > 0 and ID not in said.out + said.err


def test_a_split_by_patients_has_none_in_two_splits(cli, data, table, tmp_path):
    said = cli("data", "split", data, "--out", tmp_path / "out", "--patients", table, "--json")
    assert said.code == 0 and said.document["patients"] == 6 and said.document["without_patient"] == 0
    # The new export names its patients, so no table is needed any more.
    audit = cli("data", "check", tmp_path / "out", "--json").document
    assert audit["patient_leaks"] == 0 and audit["patients"]["from"] == {"export": 24}
    assert not [p for p in (tmp_path / "out").rglob("*.json") if ID in p.read_text()]


def test_data_of_one_patient_are_not_split(cli, data, tmp_path):
    said = cli("data", "split", data, "--out", tmp_path / "out", "--patient-pattern", r"^(\D)")
    assert said.code == 2 and said.err.count("\n") == 1 and not (tmp_path / "out").exists()
    assert "all 24 slices are of one patient, too few for 3 splits without a patient in two of them; add" in said.err


def test_every_other_command_takes_the_table(cli, data, table, tmp_path):
    said = cli("data", "convert", data, "--to", "coco", "--out", tmp_path / "coco", "--patients", table)
    assert said.code == 0
    counts = cli("data", "stats", tmp_path / "coco", "--json").document["splits"]
    assert counts["train"]["patients"] == 6 and not any(row["without_patient"] for row in counts.values())
    assert counts == cli("data", "stats", data, "--patients", table, "--json").document["splits"]
    assert "6 patients" in cli("data", "stats", data, "--patients", table).out
    said = cli("data", "show", data, "--out", tmp_path / "sheet.png", "--n", 4, "--patients", table)
    assert said.code == 0 and (tmp_path / "sheet.png").is_file()


def test_a_run_and_its_bundle_know_their_patients(cli, data, table, tmp_path):
    from detectclf.pipelines.provenance import training_patient_record, training_patients

    fast = ("--epochs", 1, "--device", "cpu", "--patients", table, "--json")
    flags = {
        "detector": ("--config", "demo-detector", "--set", "model.image_size=96"),
        "classifier": ("--config", "demo-classifier", "--set", "model.image_size=64"),
    }
    for kind, more in flags.items():
        said = cli(f"train-{kind}", "--data", data, *more, "--out", tmp_path / kind, *fast)
        assert said.code == 0, said.err
    runs = [tmp_path / kind for kind in flags]
    record = training_patient_record(None, runs)
    assert record is not None and len(record.patients) == 6 and record.unknown == 0
    for kept in ("all", "none"):
        said = cli(
            *(
                "bundle",
                "--no-export",
                "--detector",
                runs[0],
                "--classifier",
                runs[1],
                "--data",
                data,
                "--patients",
                table,
            ),
            *("--out", tmp_path / kept, "--device", "cpu", "--set", "evaluate.bootstrap=0", "--json"),
            *("--set", f"bundle.keep_fingerprints={kept}"),
        )
        assert said.code == 0, said.err
        assert training_patients(tmp_path / kept) == record.patients, "also without fingerprints"
        assert (tmp_path / kept / "fingerprints.safetensors").is_file() == (kept == "all")
    names = sorted(record.patients)
    said = cli(
        *("evaluate", "--data", data, "--split", "valid", "--model", tmp_path / "none", "--patients", table),
        *("--out", tmp_path / "evaluation", "--device", "cpu", "--set", "evaluate.bootstrap=0", "--json"),
    )
    assert said.code == 0, said.err
    assert said.document["facts"]["training_patients"] == {"patients": 6, "slices": record.slices, "unknown": 0}
    pages = [p for p in tmp_path.rglob("*") if p.suffix in (".html", ".md") and p.is_file()]
    assert pages and not [p for p in pages if any(name in p.read_text(encoding="utf-8") for name in names)]
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p != table and ID.encode() in p.read_bytes()]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("name,patient\na,b\n", "has no column 'file' in its first line; write a table with the columns file and"),
        (f"file,patient\na.jpg,{ID}1\na.jpg,{ID}2\n", "patients.csv:3: a.jpg has another patient than in line 2; "),
        ("", "is empty"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [("data", "check"), ("data", "split", "--out", "OUT"), ("train-classifier", "--arch", "cnn", "--out", "OUT")],
)
def test_a_table_that_cannot_be_used_is_one_line(cli, data, tmp_path, content, reason, command):
    file = tmp_path / "bad" / "patients.csv"
    file.parent.mkdir()
    file.write_text(content)
    words = [tmp_path / "out" if word == "OUT" else word for word in command]
    folder = ["--data", data] if command[0] == "train-classifier" else [data]
    said = cli(*words, *folder, "--patients", file)
    assert said.code == 2 and said.err.count("\n") == 1, said.err
    assert reason in said.err and ID not in said.err and not (tmp_path / "out").exists()


def test_a_pattern_that_is_none_is_one_line(cli, data):
    said = cli("data", "check", data, "--patient-pattern", "P(")
    assert said.code == 2 and said.err.count("\n") == 1 and "not a regular expression" in said.err
