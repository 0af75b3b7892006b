"""The commands of the teacher's guide, run in its order on two submissions of the real lesson."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from test_privacy import everything

from coursework import config

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "teachers-guide.md"


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    return [shlex.split(line)[1:] for block in blocks for line in block.split("\n") if line]


def test_every_option_of_the_guide_is_there(run):
    for words in commands():
        name = words[:2] if words[0] == "marks" else words[:1]
        code, said, _ = run(*name, "--help")
        assert code == 0 and all(w in said for w in words if w.startswith("--")), words


@pytest.mark.slow
def test_the_guide_from_top_to_bottom(run, tmp_path, monkeypatch):
    course = config.load(ROOT)
    tmp_path = tmp_path / "my-class"
    (tmp_path / "handed-in").mkdir(parents=True)
    shutil.copy(next(course.solutions.glob("02_*.ipynb")), tmp_path / "handed-in" / "u1.ipynb")
    shutil.copy(next(course.lessons.glob("02_*.ipynb")), tmp_path / "handed-in" / "u2.ipynb")
    (tmp_path / "roster.csv").write_text("id,name\nu1,Ann Ada\nu2,Zoë Quint\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_ROOT", str(ROOT))
    (rules,) = re.findall(r"^```toml\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "class.toml").write_text(rules, encoding="utf-8")
    for words in commands():
        if words[0] == "grade":
            words += ["--workers", "1", "--allow-unisolated"]
        code, said, err = run(*words)
        assert code == 0, (words, said, err)
        if words[:2] == ["marks", "questions"]:
            file = tmp_path / "questions.toml"
            file.write_text(file.read_text().replace("points = 0", "points = 2"))
    made = {"feedback", "class.html", "class.csv", "for-school.csv", "marks.html", "marks.csv"}
    assert (tmp_path.parent / "week-2.zip").is_file()
    # Erasing has removed what named the student, and they can be made again.
    assert made - {p.name for p in tmp_path.iterdir()} <= {"marks.html"}
    assert "Zoë" not in everything(tmp_path).decode("utf-8", "replace")
