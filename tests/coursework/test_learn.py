"""A learner's copies, updates that keep answers, and the way into JupyterLab."""

from __future__ import annotations

import copy
import json
import random
import shutil
import socket
import sys
import types

import pytest
import small_course

from coursework import build, checks, copies, doctor, learn, merge, progress, watch
from coursework.notebook import Cell, Notebook, extract, read

MINE = "# mine\n"


@pytest.fixture
def course(tmp_path):
    checks.load.cache_clear()
    made = small_course.make(tmp_path / "course")
    publish(made)
    yield made
    checks.load.cache_clear()


def publish(course) -> None:
    """Makes the lesson from its source as it is now."""
    checks.load.cache_clear()
    source = build.sources(course)[0]
    build.write(source.lesson_path, build.compose(source, lesson=True))


def update(course, *changes) -> None:
    """A new version of the course."""
    small_course.edit(small_course.source(course), *(changes or [("How much of", "How little of")]))
    publish(course)


def load(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def save(path, tree) -> None:
    path.write_text(json.dumps(tree), encoding="utf-8")


def tagged(tree, tag) -> dict:
    return next(c for c in tree["cells"] if tag in c["metadata"].get("tags", ()))


def answered(course, text=small_course.RIGHT):
    """The copy with an answer, a cell of the learner's own and a changed figure."""
    path = copies.bring(course, "42").path
    tree = load(path)
    cell = tagged(tree, "answer")
    cell["source"], cell["outputs"] = text, []
    at = tree["cells"].index(tagged(tree, "check"))
    own = {"cell_type": "code", "id": "abc", "metadata": {}, "source": MINE + "x = 1\n"}
    tree["cells"].insert(at + 1, {**own, "outputs": [], "execution_count": 3})
    save(path, tree)
    return path


def sources(path) -> list[str]:
    return [c.source for c in read(path).cells]


def test_a_lesson_is_copied_once(course):
    first = copies.bring(course, "42")
    assert first.what == "new" and first.path == course.work / f"{small_course.SLUG}.ipynb"
    assert first.path.read_bytes() == (course.lessons / first.path.name).read_bytes()
    first.path.write_bytes(first.path.read_bytes().replace(b"Signal", b"SIGNAL"))
    before = first.path.read_bytes()
    assert copies.bring(course, "42").what == "kept"
    assert first.path.read_bytes() == before


def test_an_update_keeps_answers_and_own_cells(course):
    path = answered(course)
    before = path.read_bytes()
    update(course)
    done = copies.bring(course, "42")
    assert done.what == "updated" and done.kept_old.read_bytes() == before
    assert ".before-" in done.kept_old.name and "new version" in str(done)
    found = read(path)
    all_text = "\n".join(c.source for c in found.cells)
    assert "How little of" in all_text and "How much of" not in all_text
    exercise = build.sources(course)[0].exercises["42.1"]
    assert extract(found, exercise, "undiffuse", ()).status == "ok"
    own = [i for i, c in enumerate(found.cells) if c.source.startswith(MINE)]
    assert len(own) == 1 and "check" in found.cells[own[0] - 1].tags
    assert copies.bring(course, "42").what == "kept"
    assert len(found.cells) == len(read(course.lessons / path.name).cells) + 1


def test_an_update_of_an_untouched_copy_gives_the_new_lesson(course):
    path = copies.bring(course, "42").path
    update(course, ("no logarithm", "and no logarithm"))
    assert copies.bring(course, "42").what == "updated"
    assert sources(path) == sources(course.lessons / path.name)
    import nbformat

    nbformat.validate(nbformat.read(path, 4))


def test_two_updates_on_one_day_keep_two_old_files(course):
    answered(course)
    for i in range(2):
        update(course, ("# How ", f"# How {i} "))
        assert copies.bring(course, "42").what == "updated"
    assert len(list(course.work.glob("*.before-*"))) == 2


@pytest.mark.parametrize("lost", ["tags", "ids", "both", "base", "everything"])
def test_an_update_finds_answers_that_an_editor_undressed(course, lost):
    path = answered(course)
    tree = load(path)
    for cell in tree["cells"]:
        if lost in ("tags", "both", "everything"):
            cell["metadata"] = {}
        if lost in ("ids", "both", "everything"):
            cell.pop("id")
    save(path, tree)
    if lost in ("base", "everything"):
        shutil.rmtree(course.work / copies.BASES)
    update(course)
    copies.bring(course, "42")
    found = read(path)
    answers = [c for c in found.cells if "answer" in c.tags]
    assert [c.source for c in answers] == [small_course.RIGHT]
    assert sum(c.source.startswith(MINE) for c in found.cells) == 1
    assert sum("def snr" in c.source for c in found.cells) == 1


def test_notes_in_remark_cells_stay(course):
    path = small_course.source(course)
    remark = '\n# %% [markdown] tags=["remark"]\n# **Your guess:** ...\n'
    path.write_text(path.read_text(encoding="utf-8") + remark, encoding="utf-8")
    publish(course)
    copy = copies.bring(course, "42").path
    tree = load(copy)
    cell = tagged(tree, "remark")
    cell["source"] = "**Your guess:** a half ![](attachment:x.png)"
    cell["attachments"] = {"x.png": {"image/png": "AAAA"}}
    save(copy, tree)
    update(course)
    copies.bring(course, "42")
    kept = tagged(load(copy), "remark")
    assert "a half" in "".join(kept["source"]) and kept["attachments"]


def test_a_lesson_cell_that_the_learner_changed_stays_changed(course):
    copy = copies.bring(course, "42").path
    tree = load(copy)
    cell = tagged(tree, "compare")
    cell["source"] = "print(snr(torch.tensor([0.3])))"
    save(copy, tree)
    update(course)
    copies.bring(course, "42")
    shown = [s for s in sources(copy) if "print(" in s]
    assert shown == ["print(snr(torch.tensor([0.3])))"]


def test_where_both_changed_a_cell_both_stay(course):
    copy = copies.bring(course, "42").path
    tree = load(copy)
    tagged(tree, "compare")["source"] = "print('mine')"
    save(copy, tree)
    update(course, ("round(v, 3)", "round(v, 2)"))
    copies.bring(course, "42")
    shown = [s for s in sources(copy) if "print(" in s]
    assert len(shown) == 2 and "round(v, 2)" in shown[0] + shown[1]


def test_a_second_answer_is_kept_beside_the_first(course):
    copy = answered(course)
    tree = load(copy)
    twin = dict(tagged(tree, "answer"), source=small_course.WRONG, id="twin")
    tree["cells"].append(twin)
    save(copy, tree)
    update(course)
    copies.bring(course, "42")
    assert small_course.WRONG in sources(copy) and small_course.RIGHT in sources(copy)


def test_a_renamed_lesson_is_still_found(course):
    answered(course)
    old = small_course.source(course)
    (course.lessons / f"{old.stem}.ipynb").unlink()
    old.rename(old.with_name("42_new_name.py"))
    publish(course)
    done = copies.bring(course, "42")
    assert done.path.name == "42_new_name.ipynb"
    assert small_course.RIGHT in sources(done.path)
    assert copies.of_lesson(course, "42") == done.path


def test_a_damaged_copy_is_set_aside(course):
    path = copies.bring(course, "42").path
    path.write_text("{")
    done = copies.bring(course, "42")
    assert done.what == "damaged" and done.kept_old.read_text() == "{"
    assert read(path).cells


def test_an_exercise_that_is_gone_leaves_its_answer(course):
    copy = answered(course)
    tree = load(copy)
    tagged(tree, "answer")["metadata"]["exercise"] = "42.9"
    tagged(tree, "answer").pop("id")
    save(copy, tree)
    update(course)
    copies.bring(course, "42")
    assert small_course.RIGHT in sources(copy)


def test_no_update_loses_what_a_learner_wrote():
    """Random lessons, edits and updates: every text of the learner's is in the merged notebook."""
    rng = random.Random(0)

    def lesson(version):
        cells = []
        for i in range(6):
            changed = rng.random() < 0.4
            said = f"text {i}" + f" in version {version}" * changed
            cells.append(Cell("markdown", said, id=f"m{i}" + f"v{version}" * changed))
            stub = f"def f{i}(x):\n    raise NotImplementedError\n"
            metadata = {"tags": ["answer"], "exercise": f"42.{i}"}
            cells.append(Cell("code", stub, metadata, f"answer-42-{i}"))
            remark = Cell("markdown", f"guess {i}: ...", {"tags": ["remark"]}, f"r{i}")
            cells += [remark] * (rng.random() < 0.5)
        if rng.random() < 0.3:
            rng.shuffle(cells)
        return cells

    for _ in range(300):
        base, new = lesson(1), lesson(2)
        mine = copy.deepcopy(base)
        for _ in range(rng.randrange(8)):
            cell = rng.choice(mine)
            act = rng.randrange(5)
            if act == 0 and cell.kind == "code":
                cell.source = f"def f(x):\n    return {rng.random()}\n"
            elif act == 1:
                cell.source += f"\n# {rng.random()}"
            elif act == 2:
                mine.insert(rng.randrange(len(mine)), Cell("code", f"own = {rng.random()}"))
            elif act == 3:
                mine.remove(cell)
            else:
                cell.metadata, cell.id = {}, rng.choice(["", cell.id])
        theirs = {c.source for c in base}
        wrote = {c.source for c in mine if c.source not in theirs}
        kept = rng.random() < 0.7
        merged = merge.merge(Notebook(mine), Notebook(new), Notebook(base) if kept else None)
        found = [c.source for c in merged]
        assert wrote <= set(found)
        assert {c.metadata.get("exercise") for c in new} <= {
            c.metadata.get("exercise") for c in merged
        }


# Where a learner stands


def test_standing_and_what_is_next(course):
    rows = learn.standing(course)
    assert [(r.number, r.points, r.out_of, r.minutes_left) for r in rows] == [("42", 0, 3, 5)]
    assert rows[0].title == "Signal and noise"
    assert learn.summary(rows).startswith("0 of 3 points; next: 42.1 How much")
    progress.note(course, "42.1", 2, 3)
    assert learn.standing(course)[0].points == 2
    progress.note(course, "42.1", 3, 3)
    rows = learn.standing(course)
    assert learn.next_lesson(rows) is None and "all exercises are solved" in learn.summary(rows)


def test_doctor_says_what_is_there(course):
    said = [str(line) for line in doctor.look(course)]
    assert any("Python 3." in line for line in said)
    assert any("torch" in line and "threads" in line for line in said)
    assert any("isolation" in line for line in said)


@pytest.mark.parametrize(
    "change, state, says",
    [
        (None, "good", "checksums right"),
        (lambda folder: (folder / "a.npz").write_bytes(b"other"), "bad", "a damaged"),
        (lambda folder: (folder / "a.npz").unlink(), "bad", "a missing"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "bad", "is damaged"),
        (lambda folder: (folder / "manifest.json").unlink(), "warning", "nothing was checked"),
    ],
)
def test_doctor_checks_the_data(course, change, state, says):
    folder = course.root / "data"
    folder.mkdir()
    (folder / "a.npz").write_bytes(b"data")
    sets = {"a": {"file": "a.npz", "sha256": doctor.sha256(folder / "a.npz")}}
    (folder / "manifest.json").write_text(json.dumps({"sets": sets}))
    if change:
        change(folder)
    line = doctor.data(course)
    assert line.state == state and says in line.text


def test_doctor_compares_versions(course):
    pins = course.root / "constraints.txt"
    version = ".".join(map(str, sys.version_info[:2]))
    pins.write_text("pytest==0.0.1\nno-such-package==3 ; sys_platform == 'win32'\n# x\n")
    assert "1 of another version: pytest" in doctor.versions(course).text, version
    pins.write_text(f"pytest=={pytest.__version__}\n")
    assert doctor.versions(course).state == "good"


def test_a_browser_is_not_sought_where_nobody_sits(monkeypatch):
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(learn.sys, "platform", "linux")
    assert not learn.has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert learn.has_browser()
    monkeypatch.setenv("SSH_CONNECTION", "1")
    assert not learn.has_browser()


def test_a_taken_port_gives_another():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken = s.getsockname()[1]
        assert learn.free_port(taken) not in (taken, 0)


@pytest.mark.slow
def test_jupyterlab_starts_answers_and_stops(course):
    path = copies.bring(course, "42").path
    said = learn.try_server(course, path)
    assert "JupyterLab started" in said and path.name in said


@pytest.mark.slow
def test_a_port_that_somebody_took_in_between_is_left_to_them(course, monkeypatch):
    copies.bring(course, "42")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        taken, found = s.getsockname()[1], learn.free_port
        assert learn.is_taken(taken)
        monkeypatch.setattr(learn, "free_port", lambda port=None: taken if port is None else
                            found(port))  # fmt: skip
        with learn.Server(course, None) as server:
            assert server.port == taken
            server.wait_until_ready()
            assert server.port != taken and f":{server.port}/" in server.address
    assert not learn.is_taken(taken)


@pytest.mark.slow
def test_a_server_that_does_not_start_says_why(course, monkeypatch):
    copies.bring(course, "42")
    monkeypatch.setattr(learn.sys, "executable", "/bin/false" if sys.platform != "win32" else "x")
    with pytest.raises((learn.ServerFailed, OSError), match=r"did not start|cannot find"):
        learn.Server(course, None).wait_until_ready()


# Watching


def test_watch_calls_back_at_each_save(tmp_path, monkeypatch):
    file = tmp_path / "x.ipynb"
    file.write_text("0")
    steps = iter(
        [
            lambda: None,
            lambda: file.write_text("one"),  # a save in place
            lambda: None,
            lambda: (tmp_path / "new").write_text("two!"),
            lambda: (tmp_path / "new").replace(file),  # an editor that replaces the file
            lambda: None,
            lambda: file.unlink(),  # away for a moment
            lambda: None,
            lambda: file.write_text("three"),
            lambda: None,
        ]
    )
    fake = types.SimpleNamespace(sleep=lambda _: next(steps)())
    monkeypatch.setattr(watch, "time", fake)
    seen = []
    watch.watch(file, lambda: seen.append(file.read_text()), rounds=4)
    assert seen == ["0", "one", "two!", "three"]


def test_a_file_that_is_still_being_written_is_waited_for(tmp_path, monkeypatch):
    file = tmp_path / "x.ipynb"
    file.write_text("0")
    steps = iter(["", "half", "half a", "half a file", None, None])

    def sleep(_):
        text = next(steps)
        if text:
            file.write_text(text)

    monkeypatch.setattr(watch, "time", types.SimpleNamespace(sleep=sleep))
    seen = []
    watch.watch(file, lambda: seen.append(file.read_text()), rounds=2)
    assert seen == ["0", "half a file"]
