"""Pseudonyms, and forgetting: afterwards no byte of the class's folder tells of the student."""

from __future__ import annotations

import csv
import io
import json
import os
import sqlite3
import zipfile
from pathlib import Path

import pytest
from reported import failed, passed, report
from test_marks import tree

from coursework import forget, identities, marks, pages, similar, student_page, tables
from coursework.gradebook import Gradebook
from coursework.identities import IdentityError
from coursework.submissions import Submission, collect

ANSWER = "def walk(alpha):  # Zebra crossing 4711, my own words"
LINE = "My guess is that the variance of the mix is one half, by the Zebra rule."
PEOPLE = [
    {"id": "u4711", "name": "Anna Ångström", "email": "anna@example.org"},
    {"id": "u4712", "name": "Bo Diddley", "email": "bo@example.org"},
]


def who(tmp_path) -> identities.Identities:
    made = identities.load(tmp_path / "identities.csv", tmp_path / "class.secret")
    for row in PEOPLE:
        made.add(row)
    return made


# Pseudonyms -------------------------------------------------------------------------------------


def test_pseudonyms_are_the_same_each_time_and_need_the_secret(tmp_path):
    first = who(tmp_path)
    first.save(tmp_path / "identities.csv")
    again = identities.load(tmp_path / "identities.csv", tmp_path / "class.secret")
    assert again.rows == first.rows and len(first.rows) == 2
    made = first.pseudonym("u4711")
    assert made == again.pseudonym("u4711") != first.pseudonym("u4712")
    assert "4711" not in made and len(made) == 12
    other = identities.load(tmp_path / "other.csv", tmp_path / "other.secret")
    assert other.pseudonym("u4711") != made


def test_both_files_are_for_their_owner_alone(tmp_path):
    who(tmp_path).save(tmp_path / "identities.csv")
    for name in ("identities.csv", "class.secret"):
        path = tmp_path / name
        assert path.stat().st_mode & 0o777 == 0o600
        if os.name == "posix":
            path.chmod(0o644)
            with pytest.raises(IdentityError, match=f"chmod 600 .*{name}"):
                identities.load(tmp_path / "identities.csv", tmp_path / "class.secret")
            path.chmod(0o600)


def test_identities_of_another_class_are_refused(tmp_path):
    who(tmp_path).save(tmp_path / "identities.csv")
    with pytest.raises(IdentityError, match="another class"):
        identities.load(tmp_path / "identities.csv", tmp_path / "other.secret")
    (tmp_path / "short.secret").write_text("abc")
    (tmp_path / "short.secret").chmod(0o600)
    with pytest.raises(IdentityError, match="16 characters"):
        identities.load(tmp_path / "none.csv", tmp_path / "short.secret")


def test_a_student_is_found_by_any_column(tmp_path):
    made = who(tmp_path)
    anna = made.pseudonym("u4711")
    for text in ("u4711", "U4711 ", "anna ångström", "anna@example.org", anna):
        assert made.find(text) == anna
    assert made.find("nobody") is None
    made.add({"id": "u1", "name": "Bo Diddley"})
    assert made.find("Bo Diddley") is None  # two of that name


def test_submissions_lose_their_names_and_keep_their_times(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("u4711", "Bo Diddley", "stranger"):
        (folder / f"{name}.ipynb").write_text(json.dumps(tree(guess=name)))
    os.utime(folder / "u4711.ipynb", (1000, 1000))
    made, out = who(tmp_path), tmp_path / "class" / "submissions"
    done = identities.take(collect(folder), out, made)
    assert (done.copied, done.students, done.unknown) == (3, 3, ["stranger"])
    assert sorted(p.name for p in out.iterdir()) == sorted(made.rows)
    (mine,) = (out / made.pseudonym("u4711")).iterdir()
    assert mine.stat().st_mtime == 1000 and mine.stat().st_mode & 0o777 == 0o600
    assert not any("4711" in str(p.relative_to(out)) for p in out.rglob("*"))
    assert identities.take(collect(folder), out, made).copied == 0
    assert {s.student for s in collect(out)} == set(made.rows)


def test_grades_go_back_to_names(tmp_path):
    made = who(tmp_path)
    anna = made.pseudonym("u4711")
    text = f"student,points\r\n{anna},3\r\nelse,{anna}\r\n"
    back, count = identities.identify(text, made)
    assert count == 2 and back == "student,points\r\nu4711,3\r\nelse,u4711\r\n"
    assert identities.identify(text, made, "email")[0].count("anna@example.org") == 2


# Forgetting -------------------------------------------------------------------------------------


def a_class(folder: Path) -> None:
    """Two students' traces of every kind, under their ids and under nothing."""
    for i, (id, name) in enumerate((p["id"], p["name"]) for p in PEOPLE):
        own = (
            (ANSWER, LINE) if i == 0 else ("def walk(beta):  # in other words, quite another", "x")
        )
        made = tree(guess=own[1])
        code = {"cell_type": "code", "source": own[0], "metadata": {}, "outputs": []}
        made["cells"].append(code)
        text = json.dumps(made, indent=1)
        (folder / "submissions" / id).mkdir(parents=True)
        (folder / "submissions" / id / "02.ipynb").write_text(text)
        one = report(id, [failed(), passed()], notes=[f"{name} was ill"])
        with Gradebook(folder / "grades.sqlite") as book:
            book.add(one)
        pages.write(folder / "feedback" / "lesson-02" / f"{id}.html", student_page.page(one))
    reports = [report(p["id"]) for p in PEOPLE]
    rows, columns = tables.wide(reports)
    (folder / "grades.csv").write_text(tables.to_csv(rows, columns))
    (folder / "grades.json").write_text(
        json.dumps({"submissions": [r.to_dict() for r in reports], "isolated": True})
    )
    (folder / "grades.parquet").write_bytes(b"PAR1 anything u4711 PAR1")
    pieces = [similar.Piece(p["id"], "02.1", (ANSWER,)) for p in PEOPLE]
    pairs = [similar.Pair(*pieces, (), 1.0)]
    pages.write(folder / "similar.html", similar.page(pairs, {}, "x"))
    pages.write(folder / "class.html", "<p>No name of a student is on this page.</p>")
    who_is_who = identities.load(folder / "identities.csv", folder / "class.secret")
    for p in PEOPLE:
        who_is_who.add(p)
    who_is_who.save(folder / "identities.csv")
    (folder / "roster.csv").write_text("id;name\nu4711;Anna Ångström\nu4712;Bo Diddley\n")
    with zipfile.ZipFile(folder / "canvas.zip", "w", zipfile.ZIP_DEFLATED) as z:
        for p in PEOPLE:
            text = (folder / "submissions" / p["id"] / "02.ipynb").read_text()
            z.writestr(f"{p['id']}_123_02.ipynb", text)
    entry = 'u{0},02,02.w1,A guess,asks,"{1}",1,2,"Comment for {0}",v0-aaaaaaaaaaaa\n'
    text = ",".join(marks.COLUMNS) + "\n" + entry.format(4711, LINE) + entry.format(4712, "x")
    (folder / "marks.csv").write_text(text)
    with Gradebook(folder / "grades.sqlite") as book:
        marks.apply(folder / "marks.csv", book)
    db = sqlite3.connect(folder / "other.sqlite")  # one that another tool left in WAL mode
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE seats (student TEXT, seat TEXT)")
    db.execute("INSERT INTO seats VALUES ('u4711', 'seat of Anna Ångström'), ('u4712', 'B')")
    db.commit()
    db.close()


def everything(folder: Path) -> bytes:
    """All bytes below ``folder``, of names and contents, archives unpacked."""
    parts = []
    for path in folder.rglob("*"):
        parts.append(str(path.relative_to(folder)).encode())
        if path.is_file():
            parts.append(path.read_bytes())
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as z:
                    parts += [i.filename.encode() + z.read(i) for i in z.infolist()]
    return b"\n".join(parts)


TRACES = ("u4711", "Ångström", "\\u00c5ngstr", "anna@example", "Zebra", "Comment for 4711")


def test_nothing_is_left_of_who_is_forgotten(tmp_path):
    a_class(tmp_path)
    there = identities.load(tmp_path / "identities.csv", tmp_path / "class.secret")
    pseudonym = there.pseudonym("u4711")
    before = everything(tmp_path)
    assert (
        all(t.encode() in before for t in TRACES if "\\" not in t) and pseudonym.encode() in before
    )
    terms = [pseudonym, *there.rows[pseudonym].values()]
    planned = forget.forget(tmp_path, terms)
    assert everything(tmp_path) == before and planned.done
    done = forget.forget(tmp_path, terms, really=True)
    assert done.left == []
    assert sorted(planned.done) == sorted(done.done)
    after = everything(tmp_path)
    after += b"\n" + after.lower()
    for trace in (*TRACES, pseudonym):
        for coding in ("utf-8", "utf-16-le"):
            for form in (trace, trace.casefold(), trace.upper()):
                assert form.encode(coding) not in after, form
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".part-")]


def test_the_others_keep_everything(tmp_path):
    a_class(tmp_path)
    forget.forget(tmp_path, PEOPLE[0].values(), really=True)
    assert [s.student for s in collect(tmp_path / "submissions")] == ["u4712"]
    with Gradebook(tmp_path / "grades.sqlite") as book:
        (one,) = book.reports()
        assert one.student == "u4712" and one.notes == ["Bo Diddley was ill"]
        assert [m.comment for m in marks.current(book).values()] == ["Comment for 4712"]
        for sql in ("DELETE FROM grades", "UPDATE marks SET points = 9"):
            with pytest.raises(sqlite3.DatabaseError, match="only grows"):
                book.db.execute(sql)
    assert (tmp_path / "feedback/lesson-02/u4712.html").is_file()
    assert (tmp_path / "class.html").is_file() and not (tmp_path / "similar.html").exists()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "grades.csv").read_text())))
    assert [r["student"] for r in rows] == ["u4712"]
    kept = json.loads((tmp_path / "grades.json").read_text())
    assert [s["student"] for s in kept["submissions"]] == ["u4712"] and kept["isolated"]
    assert zipfile.ZipFile(tmp_path / "canvas.zip").namelist() == ["u4712_123_02.ipynb"]
    assert "u4712;Bo Diddley" in (tmp_path / "roster.csv").read_text()
    there = identities.load(tmp_path / "identities.csv", tmp_path / "class.secret")
    assert [r["id"] for r in there.rows.values()] == ["u4712"]
    assert (tmp_path / "identities.csv").stat().st_mode & 0o777 == 0o600
    db = sqlite3.connect(tmp_path / "other.sqlite")
    assert db.execute("SELECT seat FROM seats").fetchall() == [("B",)]
    db.close()


def test_forgetting_twice_is_no_error(tmp_path):
    a_class(tmp_path)
    assert forget.forget(tmp_path, PEOPLE[0].values(), really=True).done
    assert forget.forget(tmp_path, PEOPLE[0].values(), really=True) == forget.Erased()


def test_what_no_machine_can_mend_is_told(tmp_path):
    a_class(tmp_path)
    (tmp_path / "class.toml").write_text('[[extensions]]\nstudent = "u4711"\n')
    (tmp_path / "notes.md").write_text("Anna Ångström came late.\n")
    (tmp_path / "old.tar.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "submissions" / "u4712" / "shared.py").write_text(f"# %%\n{ANSWER}\n# by u4711\n")
    (tmp_path / "u4711_again.ipynb").write_text("{}")
    left = forget.forget(tmp_path, PEOPLE[0].values(), really=True).left
    for name in ("class.toml", "notes.md", "old.tar.gz", "shared.py", "u4711_again.ipynb"):
        assert any(name in line for line in left), (name, left)
    assert len(left) == 5
    assert (tmp_path / "submissions" / "u4712" / "shared.py").is_file()


def test_a_short_name_is_not_found_inside_other_words(tmp_path):
    (tmp_path / "bob.ipynb").write_text(json.dumps(tree(guess="about Bob's robot")))
    (tmp_path / "bo.ipynb").write_text(json.dumps(tree(guess="mine")))
    done = forget.forget(tmp_path, ["bo"], really=True)
    assert done.done == ["bo.ipynb: removed"] and done.left == []
    assert (tmp_path / "bob.ipynb").is_file()


def test_links_are_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "u4711.txt").write_text("u4711")
    inside = tmp_path / "class"
    inside.mkdir()
    (inside / "u4711").symlink_to(outside)
    forget.forget(inside, ["u4711"], really=True)
    assert (outside / "u4711.txt").read_text() == "u4711" and not (inside / "u4711").is_symlink()


def test_a_database_that_is_in_use_is_told(tmp_path, monkeypatch):
    from coursework.errors import GradebookError

    (tmp_path / "broken.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 4000)
    with pytest.raises(GradebookError, match=r"broken\.sqlite cannot be erased from"):
        forget.forget(tmp_path, ["u4711"], really=True)


# Feedback ---------------------------------------------------------------------------------------


def test_feedback_holds_nothing_about_others(tmp_path):
    a_class(tmp_path)
    for mine, other in (PEOPLE, PEOPLE[::-1]):
        page = (tmp_path / "feedback" / "lesson-02" / f"{mine['id']}.html").read_text()
        assert mine["id"] in page
        assert not any(value in page for value in other.values())


def test_identities_are_submissions_like_any(tmp_path):
    made = who(tmp_path)
    path = tmp_path / "u4711.ipynb"
    path.write_text("{")
    bad = Submission(path, "u4711", "a link out of the folder")
    done = identities.take([bad], tmp_path / "out", made)
    assert (done.copied, done.students) == (0, 1)
