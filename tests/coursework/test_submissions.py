"""Whose a file is: layouts of platforms, zips, names made to mislead, several attempts."""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile

import pytest

from coursework import archives, layouts, names
from coursework.errors import NothingToGrade
from coursework.notebook import SIZE_LIMIT
from coursework.submissions import collect, newest

BOOK = '{"cells": [], "metadata": {"coursework": {"lesson": "%s"}}, "nbformat": 4}'


def book(lesson: str = "05") -> str:
    return BOOK % lesson


def tree(folder, files: dict[str, str]):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def zipped(path, files: dict[str, str | bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            z.writestr(name, data)
    return path


def both(tmp_path, files: dict[str, str]):
    """The same files in a folder and in a zip."""
    yield tree(tmp_path / "handed-in", files)
    yield zipped(tmp_path / "handed-in.zip", files)


CANVAS = {
    "lovelaceada_LATE_1234_567890_05_training-1.ipynb": book(),
    "lovelaceada_1234_567001_05_training.ipynb": book(),
    "garcía_lópezjosé_77_567002_05_training.ipynb": book(),
    "anon_x8Yq2_567003_05_training.ipynb": book(),
    "hopper_777_567004_notes.pdf": "",
}


def test_canvas(tmp_path):
    for place in both(tmp_path, CANVAS):
        found = {(s.student, s.attempt): s for s in collect(place)}
        assert set(found) == {
            ("lovelaceada_1234", 567890),
            ("lovelaceada_1234", 567001),
            ("garcía_lópezjosé_77", 567002),
            ("anon_x8Yq2", 567003),
        }
        late = found["lovelaceada_1234", 567890]
        assert late.late and late.ids == ("1234",) and late.name == "lovelaceada"
        assert late.data == book().encode()
        assert not found["lovelaceada_1234", 567001].late
        chosen = newest(found.values())
        assert len(chosen) == 3
        (ada,) = [s for s in chosen if s.student == "lovelaceada_1234"]
        assert ada.attempt == 567890
        assert "and not: lovelaceada_1234_567001_05_training.ipynb" in ada.notes[0]


def test_a_plain_name_with_numbers_is_not_canvas(tmp_path):
    files = {f"{n}.ipynb": book() for n in ("ada", "lesson_05_12345_x", "bob_2")}
    found = collect(tree(tmp_path, files))
    assert [s.student for s in found] == ["ada", "bob_2", "lesson_05_12345_x"]
    assert [s.student for s in collect(tmp_path, layout="canvas")][2] == "lesson_05"


MOODLE = {
    "Ada Lovelace_20311_assignsubmission_file_/05_training.ipynb": book(),
    "Ada Lovelace_20311_assignsubmission_file_/notes.txt": "",
    "Wei Chen_20312_assignsubmission_file_/a/05.ipynb": book(),
    "Wei Chen_20313_assignsubmission_file_/05.ipynb": book(),
    "Grace Hopper_20314_assignsubmission_onlinetext/onlinetext.html": "<p>",
}


def test_moodle(tmp_path):
    for place in both(tmp_path, MOODLE):
        found = {s.student: s for s in collect(place)}
        names = ["Ada Lovelace", "Wei Chen (20312)", "Wei Chen (20313)", "Grace Hopper"]
        assert set(found) == set(names)
        assert found["Ada Lovelace"].ids == ("20311",) and not found["Ada Lovelace"].problem
        assert "no notebook" in found["Grace Hopper"].problem


def test_moodle_without_folders(tmp_path):
    names = "Ada L_1_assignsubmission_file_05_x.ipynb", "Bo_2_assignsubmission_file_y.ipynb"
    files = dict.fromkeys(names, book())
    for place in both(tmp_path, files):
        assert [(s.student, s.ids) for s in collect(place)] == [("Ada L", ("1",)), ("Bo", ("2",))]


METADATA = """---
submission_100:
  :submitters:
  - :name: Ada Lovelace
    :sid: '3031'
    :email: ada@example.org
  :created_at: 2026-03-01 12:30:00.123456789 Z
  :score: 0.0
submission_101:
  :submitters:
  - :name: Bo Li
    :sid:
    :email: bo@example.org
  - :name: Cy Young
    :sid: '3033'
    :email: cy@example.org
  :created_at: 2026-03-02 01:00:00.000000000 Z
"""
GRADESCOPE = {
    "submission_metadata.yml": METADATA,
    "submission_100/05_training.ipynb": book(),
    "submission_100/submission_metadata.yml": "submission_101: {}",  # a student's own
    "submission_101/05_training.ipynb": book(),
    "submission_102/05_training.ipynb": book(),
}


@pytest.mark.parametrize("top", ["", "assignment_55_export/"])
def test_gradescope(tmp_path, top):
    for place in both(tmp_path, {top + n: t for n, t in GRADESCOPE.items()}):
        found = {s.student: s for s in collect(place)}
        assert set(found) == {"3031", "bo@example.org", "3033", "submission_102"}
        ada = found["3031"]
        assert ada.ids == ("3031", "ada@example.org") and ada.name == "Ada Lovelace"
        assert ada.handed_in == "2026-03-01T12:30:00.123456+00:00" and ada.attempt == 100
        assert found["3033"].data == found["bo@example.org"].data


@pytest.mark.parametrize("text", ["", "[", "a: &a [*a]", "x: !!python/object:os.system {}", "- 1"])
def test_gradescope_with_a_damaged_table(tmp_path, text):
    tree(tmp_path, {**GRADESCOPE, "submission_metadata.yml": text})
    assert [s.student for s in collect(tmp_path)] == [f"submission_{i}" for i in (100, 101, 102)]


def test_folders_and_a_zip_of_them(tmp_path):
    files = {"ada/05.ipynb": book(), "ada/06.ipynb": book("06"), "bo/x/05.py": "# %%\n1"}
    files["bo/helper.py"] = "def f(): pass"
    for place in both(tmp_path, files):
        found = [(s.student, s.path.name) for s in collect(place)]
        assert found == [("ada", "05.ipynb"), ("ada", "06.ipynb"), ("bo", "05.py")]
    wrapped = zipped(tmp_path / "w.zip", {f"week 1/{n}": t for n, t in files.items()})
    assert [s.student for s in collect(wrapped)] == ["ada", "ada", "bo"]


@pytest.mark.parametrize(
    "files, layout, students",
    [
        (["all/ada.ipynb", "all/bo.ipynb"], None, ["ada", "bo"]),
        (["ada/05.ipynb", "ada/06.ipynb"], "folders", ["ada", "ada"]),
        (["ada/05.ipynb", "ada/notes.txt"], None, ["ada"]),
        (["w/05.ipynb"], None, ["05"]),
        (["Ada_9_assignsubmission_file_/05.ipynb"], None, ["Ada"]),
        (["submission_7/05.ipynb", "submission_7/06.ipynb"], None, ["submission_7"] * 2),
    ],
)
def test_one_folder_in_a_zip(tmp_path, files, layout, students):
    path = zipped(tmp_path / "w.zip", {f: book(f[-8:-6]) for f in files})
    assert [s.student for s in collect(path, layout)] == students


def test_the_newest_is_chosen_for_each_lesson(tmp_path):
    tree(tmp_path, {f"ada/{n}.ipynb": book() for n in ("a", "b", "c")})
    tree(tmp_path, {"ada/d.ipynb": book("06"), "ada/e.ipynb": "{broken"})
    for age, name in enumerate("bac"):
        os.utime(tmp_path / "ada" / f"{name}.ipynb", (1e9 + age, 1e9 + age))
    chosen = newest(collect(tmp_path))
    assert [s.path.name for s in chosen] == ["c.ipynb", "d.ipynb", "e.ipynb"]
    assert "b.ipynb, a.ipynb" in chosen[0].notes[0]
    os.utime(tmp_path / "ada" / "e.ipynb", (2e9, 2e9))
    # Told that all are of one lesson, what is damaged or of another does not hide one that fits.
    (only,) = newest(collect(tmp_path), "05")
    assert only.path.name == "c.ipynb" and "not: e.ipynb, d.ipynb" in only.notes[0]


# What is dangerous in a zip ------------------------------------------------------------------


def test_members_that_lead_out_are_told_and_cost_nobody_else(tmp_path):
    files = {
        "ada.ipynb": book(),
        "../eve.ipynb": book(),
        "/abs.ipynb": book(),
        "C:\\x.ipynb": book(),
        "a\\..\\..\\y.ipynb": book(),
    }
    found = {m.name: m.problem for m in archives.members(zipped(tmp_path / "x.zip", files))}
    assert found.pop("ada.ipynb") == ""
    assert len(found) == 4 and all("leads out" in p for p in found.values())
    submissions = collect(tmp_path / "x.zip")
    assert [s.student for s in submissions if not s.problem] == ["ada"]
    assert all("leads out" in s.problem for s in submissions if s.problem)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.zip"]


def test_links_and_encrypted_members_are_not_read(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as z:
        link = zipfile.ZipInfo("eve.ipynb")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        z.writestr(link, "/etc/passwd")
        z.writestr("bo.ipynb", book())
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1  # bo is encrypted, says the directory
    path.write_bytes(bytes(data))
    problems = {s.student: s.problem for s in collect(path)}
    assert "symbolic link" in problems["eve"] and "encrypted" in problems["bo"]


def test_a_bomb_is_refused_by_its_ratio(tmp_path):
    path = zipped(tmp_path / "x.zip", {"eve.ipynb": b" " * 30_000_000, "ada.ipynb": book()})
    eve, ada = sorted(collect(path), key=lambda s: s.student, reverse=True)
    assert "zip bomb" in eve.problem and not ada.problem


def test_a_bomb_that_lies_about_its_size_is_cut(tmp_path):
    path = zipped(tmp_path / "x.zip", {"eve.ipynb": b" " * 5_000_000})
    data = path.read_bytes()
    packed = struct.pack("<I", 5_000_000)
    path.write_bytes(data.replace(packed, struct.pack("<I", 5000)))
    (eve,) = collect(path)
    assert not eve.problem  # nothing can be seen from outside
    with pytest.raises(archives.BadArchive, match="damaged"):
        data = eve.data
        assert len(data) <= SIZE_LIMIT + 1
        raise archives.BadArchive("damaged, too short")
    assert len(eve.digest) == 64


def test_bytes_used_twice_are_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", {"ada.ipynb": book(), "eve.ipynb": book()})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = struct.pack("<I", 10)  # eve begins within ada
    path.write_bytes(bytes(data))
    assert "shares its bytes" in {s.student: s.problem for s in collect(path)}["eve"]


def test_too_much_in_all_is_refused(tmp_path, monkeypatch):
    path = zipped(tmp_path / "x.zip", {f"{i}.ipynb": book() for i in range(10)})
    monkeypatch.setattr(archives, "TOTAL_LIMIT", 100)
    with pytest.raises(archives.BadArchive, match="would unpack"):
        collect(path)
    monkeypatch.setattr(archives, "COUNT_LIMIT", 9)
    with pytest.raises(archives.BadArchive, match="10 files"):
        collect(path)


def test_what_one_claims_does_not_cost_all(tmp_path):
    path = zipped(tmp_path / "x.zip", {"eve.ipynb": book(), "ada.ipynb": book()})
    data = bytearray(path.read_bytes())
    first = data.index(b"PK\1\2")
    data[first + 24 : first + 28] = struct.pack("<I", 4_294_000_000)  # its size, it says
    path.write_bytes(bytes(data))
    problems = {s.student: s.problem for s in collect(path)}
    assert "4294 MB" in problems["eve"] and problems["ada"] == ""


def test_an_archive_in_an_archive(tmp_path):
    inner = zipped(tmp_path / "in.zip", {"05.ipynb": book()}).read_bytes()
    files = {"ada/05.zip": inner, "bo/05.ipynb": book(), "bo/data.tar.gz": b"x"}
    found = {s.student: s for s in collect(zipped(tmp_path / "x.zip", files))}
    assert "archive in an archive" in found["ada"].problem
    assert not found["bo"].problem and "data.tar.gz was not read" in found["bo"].notes[0]


@pytest.mark.parametrize("data", [b"", b"PK\3\4 not much", b"PK\5\6" + b"\xff" * 18])
def test_what_is_no_zip(tmp_path, data):
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    with pytest.raises(archives.BadArchive, match="not a zip file"):
        collect(path)
    tree(tmp_path, {"ada.ipynb": book()})
    problems = {s.student: s.problem for s in collect(tmp_path)}
    assert problems["ada"] == "" and "not a zip" in problems["x"]


def test_zips_in_a_folder(tmp_path):
    zipped(tmp_path / "canvas.zip", {n: t for n, t in CANVAS.items()})
    zipped(tmp_path / "bo.zip", {"05.ipynb": book()})
    zipped(tmp_path / "hopper_777_5001_work.zip", {"05.ipynb": book()})
    found = {s.student: s.problem for s in collect(tmp_path)}
    assert found["lovelaceada_1234"] == "" and "an archive" in found["bo"]
    assert "archive is not opened" in found["hopper_777_5001_work"]


def test_a_member_of_the_same_name_twice(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("ada.ipynb", book())
        with pytest.warns(UserWarning):
            z.writestr("ada.ipynb", book("06"))
    found = archives.members(path)
    assert found[0].problem == "" and "same name" in found[1].problem
    (ada,) = collect(path)
    assert json.loads(ada.data)["metadata"]["coursework"]["lesson"] == "05"


# Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw, cleaned",
    [
        ("Jose\u0301", "José"),
        ("ada\x1b[31m\x07", "ada"),
        ("a\u202eda", "ada"),
        ("ada\u200b", "ada"),
        ("  ada\t lovelace\n", "ada lovelace"),
        ("نمی\u200cخواهم", "نمی\u200cخواهم"),
        ("\udcff", "?"),
        ("\u200b", "unnamed"),
        ("x" * 500, "x" * names.LIMIT),
    ],
)
def test_names_are_cleaned(raw, cleaned):
    assert names.clean(raw) == cleaned


def test_nobody_hands_in_for_another(tmp_path):
    tree(tmp_path, {"ada.ipynb": book(), "ada\u200b.ipynb": book(), "bo.ipynb": book()})
    found = {s.student: s.problem for s in collect(tmp_path)}
    assert found["bo"] == "" and "ada" not in found
    assert "look like 'ada'" in found["ada (1)"] and "look like 'ada'" in found["ada (2)"]


def test_names_without_the_mark_of_utf_8(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as z:
        info = zipfile.ZipInfo("xxxxx.ipynb")
        z.writestr(info, book())
    path.write_bytes(path.read_bytes().replace(b"xxxxx.ipynb", "Zoë".encode() + b"w.ipynb"))
    assert [s.student for s in collect(path)] == ["Zoëw"]


def test_layouts_are_known_by_name():
    assert set(layouts.LAYOUTS) == {"flat", "folders", "canvas", "moodle", "gradescope"}


def test_nothing_in_a_zip(tmp_path):
    with pytest.raises(NothingToGrade, match=r"x\.zip"):
        collect(zipped(tmp_path / "x.zip", {"readme.txt": "", "__MACOSX/._a.ipynb": ""}))
