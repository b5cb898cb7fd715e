"""Copies of slices: planted ones are found, different slices are not, and the file of fingerprints round-trips."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from detectclf.cache import Cache
from detectclf.datasets.index import SliceIndex
from detectclf.duplicates.copies import copies_between, find_copies
from detectclf.duplicates.fingerprints import ROW, Fingerprints, fingerprint
from detectclf.duplicates.kinds import kinds_of
from detectclf.duplicates.pairs import compare
from detectclf.duplicates.versions import named_groups, names_apart
from detectclf.errors import DataError
from detectclf.types import Pixels, Sample

Change = Callable[[Pixels], Pixels]


def head(seed: int, side: int = 320, depth: float = 0.0) -> Pixels:
    """A drawn head: skull, brain with folds, ventricles; ``depth`` moves to a neighbouring slice of the same head."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:side, :side] / side - 0.5).astype(np.float64)
    tilt, rx, ry = rng.uniform(-0.2, 0.2), rng.uniform(0.30, 0.36), rng.uniform(0.38, 0.44)
    u, v = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    radius = np.hypot(u / rx, v / ry)
    # A volume of smooth noise, cut at `depth`: neighbours share the head but not the folds.
    planes = [cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), side / 32) for _ in range(2)]
    folds = np.cos(depth) * planes[0] + np.sin(depth) * planes[1]
    image = np.where(radius < 0.9, 90 + 35 * folds / folds.std(), 0.0)
    ventricle = np.hypot((u - 0.03) / (0.07 + 0.03 * np.cos(depth)), (v + 0.02) / (0.11 + 0.04 * np.cos(depth)))
    image = np.where(ventricle < 1, 30.0, image)
    image = np.where((radius >= 0.9) & (radius < 1), 210.0, image)
    return clip(cv2.GaussianBlur(image, (0, 0), side / 250) + rng.normal(0, 1.5, image.shape))


def clip(values: object) -> Pixels:
    return np.clip(np.rint(np.asarray(values, np.float64)), 0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def sharpened(pixels: Pixels) -> Pixels:
    soft = cv2.GaussianBlur(pixels, (0, 0), 1.5).astype(np.float64)
    return clip(pixels + 3 * (pixels - soft))


def noised(pixels: Pixels) -> Pixels:
    return clip(pixels + np.random.default_rng(7).normal(0, 8, pixels.shape))


CHANGES: list[tuple[str, str, Change]] = [
    ("exact", "exact", lambda p: p.copy()),
    ("re-encoded", "reencoded", lambda p: jpeg(p, 60)),
    ("smaller", "resized", lambda p: resize(p, 224, 224)),
    ("stretched", "resized", lambda p: resize(p, 416, 300)),
    ("mirrored", "mirrored", lambda p: np.ascontiguousarray(p[:, ::-1])),
    ("up-down", "flipped", lambda p: np.ascontiguousarray(p[::-1])),
    ("rotated by 90", "rotated", lambda p: np.ascontiguousarray(np.rot90(p))),
    ("rotated by 180", "rotated", lambda p: np.ascontiguousarray(np.rot90(p, 2))),
    ("rotated by 270", "rotated", lambda p: np.ascontiguousarray(np.rot90(p, 3))),
    ("transposed", "transposed", lambda p: np.ascontiguousarray(p.T)),
    ("brighter", "adjusted", lambda p: clip(p * 1.0 + 30)),
    ("darker", "adjusted", lambda p: clip(p * 0.6)),
    ("more contrast, saturated", "adjusted", lambda p: clip((p - 60.0) * 1.5 + 60)),
    ("gamma", "adjusted", lambda p: clip(255 * (p / 255.0) ** 0.7)),
    ("cropped by 3 % all round", "cropped", lambda p: p[10:-10, 10:-10].copy()),
    ("cropped at one corner", "cropped", lambda p: p[9:, 9:].copy()),
    ("noised", "noised", noised),
    ("sharpened", "noised", sharpened),
    ("re-encoded at quality 10", "reencoded", lambda p: jpeg(p, 10)),
    ("rotated, gamma", "rotated", lambda p: clip(255 * (np.rot90(p) / 255.0) ** 1.5)),
    ("up-down, cropped", "flipped", lambda p: np.ascontiguousarray(p[::-1][8:-8, 8:-8])),
    ("mirrored, noised", "mirrored", lambda p: noised(np.ascontiguousarray(p[:, ::-1]))),
    ("mirrored, darker, small, re-encoded", "mirrored", lambda p: jpeg(resize(clip(p[:, ::-1] * 0.7), 200, 200), 70)),
]


def fingerprints(slices: list[Pixels], split: str = "train") -> Fingerprints:
    rows = np.concatenate([fingerprint(p) for p in slices]) if slices else np.zeros(0, ROW)
    return Fingerprints(rows, tuple(str(i) for i in range(len(slices))), (split,) * len(slices), ("d",) * len(slices))


@pytest.mark.parametrize(("kind", "change"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_each_kind_is_found_and_named(kind: str, change: Change) -> None:
    slices = [head(seed) for seed in range(4)]
    groups = find_copies(fingerprints([*slices, change(slices[2])]))
    assert [(g.members, g.kind) for g in groups] == [((2, 4), kind)]
    assert groups[0].kinds == ("exact", kind)


def test_recall_and_precision_on_planted_copies() -> None:
    slices, truth = [], []
    for source, depth in itertools.product(range(4), (0.0, 1.0)):
        original = head(source, 256, depth)
        for number in (0, *np.random.default_rng(source).choice(np.arange(1, len(CHANGES)), 6, replace=False)):
            slices.append(CHANGES[number][2](original))
            truth.append((source, depth))
    found = {pair for g in find_copies(fingerprints(slices)) for pair in itertools.combinations(g.members, 2)}
    true = {(a, b) for a, b in itertools.combinations(range(len(slices)), 2) if truth[a] == truth[b]}
    assert len(found & true) / len(true) >= 0.98
    assert len(found & true) / len(found) >= 0.98


def test_neighbouring_slices_are_no_copies() -> None:
    assert find_copies(fingerprints([head(3, depth=1.0 * step) for step in range(5)])) == []


def test_similarity_is_symmetric_and_one_for_itself() -> None:
    a, b = fingerprint(head(1)), fingerprint(np.ascontiguousarray(head(1)[:, ::-1]))
    assert compare(a, a)[0][0] == pytest.approx(1, abs=1e-3)
    assert compare(a, b)[0][0] == pytest.approx(compare(b, a)[0][0], abs=0.01)


def test_many_exact_copies_do_not_hide_a_mirrored_one() -> None:
    slices = [head(0)] * 40 + [np.ascontiguousarray(head(0)[:, ::-1]), head(1)]
    groups = find_copies(fingerprints(slices))
    assert [g.members for g in groups] == [tuple(range(41))]
    assert groups[0].kind == "mirrored" and groups[0].kinds[:40] == ("exact",) * 40


@pytest.mark.parametrize(
    "slices",
    [
        [],
        [np.zeros((64, 64), np.uint8)],
        [np.zeros((64, 64), np.uint8), np.full((64, 64), 9, np.uint8), np.zeros((32, 64), np.uint8)],  # constant
        [np.full((1, 1), v, np.uint8) for v in range(3)],
        [np.full((1, 500), v, np.uint8) for v in range(3)],
        [np.eye(3, dtype=np.uint8) * v for v in (1, 200)],  # too small to tell
        [np.random.default_rng(s).integers(0, 255, (200, 300)).astype(np.uint8) for s in range(4)],  # nothing but noise
    ],
    ids=["none", "one", "constant", "pixel", "line", "tiny", "noise"],
)
def test_odd_slices_are_no_copies(slices: list[Pixels]) -> None:
    assert find_copies(fingerprints(slices)) == []


def test_equal_constant_slices_are_exact_copies() -> None:
    groups = find_copies(fingerprints([np.zeros((64, 64), np.uint8)] * 2))
    assert [(g.members, g.kind) for g in groups] == [((0, 1), "exact")]


def test_copies_between_two_sets() -> None:
    train = fingerprints([head(0), head(1)])
    test = fingerprints([head(5), np.ascontiguousarray(head(1)[::-1]), head(6), head(6), jpeg(head(0), 50)], "test")
    assert copies_between(train, test).tolist() == [1, 4]  # 2 and 3 are copies of each other only
    assert copies_between(fingerprints([]), test).tolist() == []


def test_file_round_trip(tmp_path: Path) -> None:
    kept = fingerprints([head(0), head(1)])
    kept.save(tmp_path / "copies.safetensors")
    again = Fingerprints.load(tmp_path / "copies.safetensors")
    assert np.array_equal(again.rows, kept.rows) and again.rows.dtype == ROW
    assert (again.names, again.splits, again.sources) == (kept.names, kept.splits, kept.sources)
    assert (tmp_path / "copies.safetensors").stat().st_size < 2 * 5000
    assert [path.name for path in tmp_path.iterdir()] == ["copies.safetensors"]


@pytest.mark.parametrize("content", [None, b"", b"hello", b"\xff" * 64, b"\x02\x00\x00\x00\x00\x00\x00\x00{}"])
def test_bad_files_are_one_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "copies.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match="fingerprints"):
        Fingerprints.load(file)


def test_samples_keep_their_order_and_unreadable_ones_match_nothing(tmp_path: Path) -> None:
    samples = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        cv2.imwrite(str(path), head(number % 2, 128))
        samples.append(Sample(path, path.name, "train", "glioma", source=str(tmp_path)))
    for number in (1, 3):
        samples[number].path.write_bytes(b"broken")
    found = SliceIndex(Cache(None)).look_up(samples).fingerprints
    assert found.names == tuple(s.name for s in samples)
    assert found.readable.tolist() == [True, False, True, False, True, True]
    assert [g.members for g in find_copies(found)] == [(0, 2, 4)]


# Strongly sharpened copies in the real slices, some mirrored or flipped, and slices beside each other in one head that
# agree better on the whole; both judged by eye.
SHARPENED = [("0549", "0481"), ("0549", "0456"), ("0549", "0475"), ("0455", "0411"), ("0455", "0554"), ("0469", "0176")]
NEIGHBOURS = [("pi_0265", "pi_0266"), ("pi_0509", "pi_0510"), ("gl_0322", "gl_0395"), ("gl_0390", "gl_0391")]


def moved(pixels: Pixels, matrix: list[list[float]]) -> Pixels:
    """An affine change about the centre, as Roboflow makes versions."""
    side = len(pixels)
    linear = np.array(matrix)
    shift = np.full(2, side / 2) - linear @ np.full(2, side / 2)
    return np.asarray(cv2.warpAffine(pixels, np.c_[linear, shift], (side, side)), np.uint8)


def cut_out(pixels: Pixels) -> Pixels:
    result = pixels.copy()
    for y, x in ((60, 90), (150, 180), (200, 100)):
        result[y : y + 40, x : x + 40] = 0
    return result


COS, SIN = np.cos(np.deg2rad(12)), np.sin(np.deg2rad(12))
VERSIONS: dict[str, tuple[str, Change]] = {
    "rotated": ("rotated", lambda p: moved(p, [[COS, -SIN], [SIN, COS]])),
    "rotated the other way": ("rotated", lambda p: moved(p, [[COS, SIN], [-SIN, COS]])),
    "sheared": ("sheared", lambda p: moved(p, [[1, 0.2], [0, 1]])),
    "cropped": ("cropped", lambda p: resize(p[24:-24, 30:-18], len(p), len(p))),
    "cut out": ("cut_out", cut_out),
    "mirrored and cut out": ("mirrored", lambda p: cut_out(np.ascontiguousarray(p[:, ::-1]))),
    "mirrored and rotated": ("mirrored", lambda p: moved(np.ascontiguousarray(p[:, ::-1]), [[COS, -SIN], [SIN, COS]])),
}


def test_versions_of_one_name_are_found_and_others_of_that_name_are_not() -> None:
    slices = [head(0), *(change(head(0)) for _, change in VERSIONS.values()), head(1), head(2)]
    prints = fingerprints(slices)
    names = [f"a_jpg.rf.{'0123456789'[i] * 8}.jpg" for i in range(len(slices))]
    found = find_copies(Fingerprints(prints.rows, tuple(names), prints.splits, prints.sources))
    assert [g.members for g in found] == [tuple(range(len(VERSIONS) + 1))]
    # Two more heads have that name: it is said, and not believed.
    assert names_apart(names, [g.members for g in found]) == [(0, len(VERSIONS) + 1)]


def test_versions_of_any_name_are_found_among_others() -> None:
    changes = [change for _, change in VERSIONS.values()]
    originals = [head(seed) for seed in range(len(changes))]
    slices = [*originals, *(change(originals[n]) for n, change in enumerate(changes))]
    found = find_copies(fingerprints(slices))
    assert [g.members for g in found] == [(n, len(changes) + n) for n in range(len(changes))]
    assert [g.kind for g in found] == [kind for kind, _ in VERSIONS.values()]


MORE_KINDS: dict[str, tuple[str, Change]] = {
    "rotated by 3 degrees": ("rotated", lambda p: moved(p, [[1, -0.052], [0.052, 1]])),
    "rotated, darker": ("rotated", lambda p: clip(0.8 * moved(p, [[COS, -SIN], [SIN, COS]]))),
    "rotated, cut out": ("rotated", lambda p: cut_out(moved(p, [[COS, -SIN], [SIN, COS]]))),
    "sheared both ways": ("sheared", lambda p: moved(p, [[1, 0.15], [0.1, 1]])),
    "cropped at the sides only": ("cropped", lambda p: resize(p[:, 30:-30], len(p), len(p))),
    "smaller in the frame": ("cropped", lambda p: np.pad(p, 30)),
    "more contrast, black saturated": ("adjusted", lambda p: clip((p - 60.0) * 1.3 + 30)),
    "cut out, brighter": ("cut_out", lambda p: clip(cut_out(p) + 20.0)),
    "too much at once": ("version", lambda p: noised(noised(noised(cut_out(cut_out(resize(p, 30, 30))))))),
    "another slice": ("version", lambda p: head(9)),
}


@pytest.mark.parametrize(("kind", "change"), MORE_KINDS.values(), ids=MORE_KINDS)
def test_the_change_is_named_or_said_to_be_unsure(kind: str, change: Change) -> None:
    """Whatever has put the two into one group, such as a third slice between them."""
    rows = fingerprints([head(2), change(head(2))]).rows
    assert kinds_of(rows, [0, 1]) == ("exact", kind)


@pytest.mark.shared
def test_versions_of_real_slices_are_found_by_content(shared: Path) -> None:
    files = sorted((shared / "data/boxed/valid").glob("Tr-*_*.jpg"))[:80]
    slices = [resize(np.asarray(cv2.imread(str(f), cv2.IMREAD_GRAYSCALE), np.uint8), 320, 320) for f in files]
    before = find_copies(fingerprints(slices))
    grouped = {member for g in before for member in g.members}
    alone = [i for i in range(len(slices)) if i not in grouped][::3]
    changes = [change for _, change in VERSIONS.values()]
    planted = [changes[n % len(changes)](slices[i]) for n, i in enumerate(alone)]
    after = [g.members for g in find_copies(fingerprints([*slices, *planted]))]
    expected = {(i, len(slices) + n) for n, i in enumerate(alone)}
    assert len(expected & set(after)) / len(expected) >= 0.9
    assert {g for g in after if g not in expected} == {g.members for g in before}


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (("a_jpg.rf.01234567.jpg", "train/a_jpg.rf.89abcdef.jpg", "b_jpg.rf.01234567.jpg"), [[0, 1]]),
        (("a.rf.01234567.jpg", "a.rf.jpg", "a.jpg"), []),
        (("a.jpg", "a.jpg"), []),  # two folders may have files of one name
    ],
)
def test_names_of_versions(names: tuple[str, ...], groups: list[list[int]]) -> None:
    assert named_groups(names) == groups


@pytest.mark.shared
def test_sharpened_copies_are_told_from_neighbouring_slices(shared: Path) -> None:
    pairs = [(f"no_{a}", f"no_{b}") for a, b in SHARPENED] + NEIGHBOURS
    names = sorted({name for pair in pairs for name in pair})
    files = [min((shared / "data/boxed").rglob(f"Tr-{name}_*.jpg")) for name in names]
    slices = [np.asarray(cv2.imread(str(f), cv2.IMREAD_GRAYSCALE), np.uint8) for f in files]
    groups = [{names[i] for i in g.members} for g in find_copies(fingerprints(slices))]
    assert [pair for pair in pairs if any(set(pair) <= group for group in groups)] == pairs[: len(SHARPENED)]


@pytest.mark.shared
def test_dark_neighbours_of_changed_contrast_stay_apart(shared: Path) -> None:
    """Little but the skull is left of them, and the skull is the same."""
    names = ["gl_0209", "gl_0210", "gl_0245", "gl_0246", "gl_0324", "gl_0325", "gl_0396", "gl_0397"]
    slices = []
    for name in names:
        file = min((shared / "data/boxed").rglob(f"Tr-{name}_*.jpg"))
        pixels = resize(np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.uint8), 256, 256)
        slices += [
            pixels,
            *(clip((pixels - 128.0) * f + 128) for f in (1.25, 1.4)),
            clip(255 * (pixels / 255.0) ** 1.6),
        ]
    assert all(len({member // 4 for member in g.members}) == 1 for g in find_copies(fingerprints(slices)))


@pytest.mark.shared
def test_real_slices(shared: Path) -> None:
    """Mirrored copies are found across splits, and series of neighbouring slices stay apart."""
    files = sorted((shared / "data/boxed/valid").glob("*.jpg"))[:80]
    slices = [np.asarray(cv2.imread(str(f), cv2.IMREAD_GRAYSCALE), np.uint8) for f in files]
    before = find_copies(fingerprints(slices))
    grouped = {member for g in before for member in g.members}
    alone = [i for i in range(len(slices)) if i not in grouped][::6]
    planted = [CHANGES[1 + n % (len(CHANGES) - 1)][2](slices[i]) for n, i in enumerate(alone)]
    after = find_copies(fingerprints([*slices, *planted]))
    expected = {(i, len(slices) + n) for n, i in enumerate(alone)}
    assert len(expected & {g.members for g in after}) / len(expected) >= 0.95
    assert len(after) == len(before) + len(expected & {g.members for g in after})
