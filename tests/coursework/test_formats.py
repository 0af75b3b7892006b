"""Reports in the formats of other systems: valid there, and harmless whatever a student wrote."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import jsonschema
import nbformat
import pytest
from format_contracts import CLASSROOM50, GITHUB_CLASSROOM, PRAIRIELEARN, published
from markdown_it import MarkdownIt
from toy_course import (
    FORKED,
    SCALE,
    WRONG_SCALE,
    copy_course,
    grade,
    lesson_01,
    notebook,
    write,
)

from coursework import grader, safe
from coursework.formats import FormatError, classroom, commands, github, prairielearn
from coursework.formats.junit import junit
from coursework.formats.rows import Visibility, rows
from coursework.judge import CaseResult, ExerciseResult, Finding
from coursework.reports import SubmissionReport

HERE = Path(__file__).parent
NARROW = "def scale(x, k):\n    return (x.float() * k)\n"
HOSTILE = (
    "\x00\x1b[31mred\x1b[0m\x1b]0;title\x07 \ud800 \u202egnp.exe\u2066 ]]> <script>x</script>"
    "\r\n::error file=a.py::forged\n##[error]forged\n::set-output name=points::99\n"
    "```\n# heading\n| a | b |\n`````\n@everyone ![x](http://x.example/p.png) &amp; <!-- -->"
)
ENVIRON = {
    "CLASSROOM": "cs-principles",
    "ASSIGNMENT": "toy",
    "ASSIGNMENT_TYPE": "individual",
    "OWNER": "alice",
    "USERNAME": "alice",
    "SUBMISSION_TAG": "submit/2026-06-01T14-32-05Z-a1b2c3d",
    "COMMIT_URL": "https://git.example/o/r/commit/1",
    "RELEASE_URL": "https://git.example/o/r/releases/tag/s",
}


def hostile(text: str = HOSTILE, count: int = 1) -> SubmissionReport:
    """A report every free text of which is ``text``."""
    exercises = []
    for i in range(count):
        result = ExerciseResult(f"01.{i + 1}", text, "failed", 0, 3)
        result.groups = {"main": (0, 2), text: (0, 1)}
        result.finding = Finding("error", text, text)
        result.cases = [
            CaseResult(text, "main", False, Finding("error", text)),
            CaseResult("plain", text, False, Finding("value", text)),
        ]
        exercises.append(result)
    report = SubmissionReport(text, text, "01", "crashed", 0, 3 * count, exercises)
    report.notes = [text]
    return report


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Reports on what is right, wrong, partly right, not attempted, and no notebook."""
    if not FORKED:
        pytest.skip("nothing can be forked here")
    folder = tmp_path_factory.mktemp("formats")
    course = copy_course(folder / "toy")
    stub = 'def scale(x, k):\n    raise NotImplementedError("01.1: write scale")\n'
    sources = {"right": SCALE, "wrong": WRONG_SCALE, "partly": NARROW, "stub": stub}
    found = {}
    with grader.Grader(course, slack=4) as toy:
        for name, source in sources.items():
            path = write(folder / f"{name}.ipynb", lesson_01(source))
            found[name] = grade(toy, path, name)
        broken = folder / "lesson_01_broken.ipynb"
        broken.write_text("no notebook")
        found["broken"] = grade(toy, broken, "broken")
        both = {"01.1": WRONG_SCALE, "01.2": "def shift(x, k):\n    return x\n"}
        found["two"] = grade(toy, write(folder / "two.ipynb", notebook(both)), "two")
    assert {k: r.points for k, r in found.items()} == {
        "right": 5, "wrong": 2, "partly": 4, "stub": 2, "broken": 0, "two": 0,
    }  # fmt: skip
    return found


# Text ------------------------------------------------------------------------------------------


def test_plain_text_has_no_controls():
    text = safe.plain(HOSTILE)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]", text
    )
    assert text.startswith("red \ufffd") and "\r" not in text and "title" not in text
    assert safe.line("a\r\n b\t c") == "a b c"
    assert safe.plain("x" * 50, 20) == "x" * 10 + " [... cut]"


@pytest.mark.parametrize(
    "text", ["=1+1", "+a", "-a", "@a", "\t=1", "  =1", "\uff1d1", "\r=1", "\n+x"]
)
def test_formulas_are_text(text):
    assert safe.cell(text).startswith("'") or not safe.is_formula(safe.cell(text))
    assert safe.is_formula(text)


@pytest.mark.parametrize("text", ["5", "-1", "2.5", "Ada", "O'Brien", "a=b", ""])
def test_plain_cells_stay(text):
    assert safe.cell(text) == text


def test_a_fence_holds_what_is_in_it():
    tokens = MarkdownIt("commonmark").parse(safe.fence(HOSTILE) + "\n\nafter")
    assert [t.type for t in tokens] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert "# heading" in tokens[0].content and tokens[2].content == "after"


@pytest.mark.parametrize(
    "text", [HOSTILE, "[a](b)", "*a* _b_", "a|b", "<b>", "&lt;", "# a", "1. a"]
)
def test_markdown_shows_text_as_it_stands(text):
    page = MarkdownIt("commonmark").enable("table").render(f"x {safe.markdown(text)}")
    shown = re.sub(r"</?p>", "", page).strip()
    assert not re.search("<(?!br)", shown), shown
    import html

    assert html.unescape(shown).replace("\u200b", "") == f"x {safe.line(text)}"
    assert not re.search(r"@\w", shown)


# Rows ------------------------------------------------------------------------------------------


def test_a_row_for_each_group(made):
    found = rows(made["partly"])
    assert [(r.slug, r.points, r.out_of) for r in found] == [
        ("01.1/float32", 2, 2), ("01.1/float64", 0, 1), ("01.2/main", 2, 2),
    ]  # fmt: skip
    assert [bool(r.text) for r in found] == [False, True, False]
    assert found[2].name == "01.2 Shift" and found[0].name == "01.1 Scale: float32"


def test_rows_tell_only_what_their_own_cases_show(made):
    hidden = Visibility(rules={"01.1/float64": "hidden"})
    found = {r.slug: r for r in rows(made["two"], hidden)}
    assert "float64" in found["01.1/float64"].text and "float64" not in found["01.1/float32"].text
    assert found["01.1/float64"].visibility == "hidden"


def test_a_hidden_case_only_fails():
    report = hostile("plain words")
    report.exercises[0].finding = None
    for case in report.exercises[0].cases:
        case.hidden = True
    texts = [r.text for r in rows(report)]
    assert texts == ["a hidden case: fails", "a hidden case: fails"]
    assert "plain words" not in [
        c.attrib["name"] for c in ElementTree.fromstring(junit([report])).iter("testcase")
    ]
    assert "a hidden case" in junit([report])


def test_visibility_is_checked():
    seen = Visibility.parse(["after_published", "01.1=hidden", "01.1/float32=visible"])
    assert seen.of("01.2", "main") == "after_published"
    assert seen.of("01.1", "float64") == "hidden" and seen.of("01.1", "float32") == "visible"
    for words in (["sometimes"], ["01.1=never"], ["scale=hidden"]):
        with pytest.raises(FormatError):
            Visibility.parse(words)
    with pytest.raises(FormatError, match=r"01\.1/float16"):
        Visibility(rules={"01.1/float16": "hidden"}).check({"01.1": ("float32",)})


# JUnit -----------------------------------------------------------------------------------------


def test_junit_fits_the_schema_of_jenkins(made):
    xmlschema = pytest.importorskip("xmlschema")
    schema = xmlschema.XMLSchema(HERE / "schemas" / "junit-10.xsd")
    for reports in (list(made.values()), [hostile()], []):
        schema.validate(junit(reports))


def test_junit_holds_any_text():
    root = ElementTree.fromstring(junit([hostile()]).encode("utf-8"))
    texts = [f.text for f in root.iter("failure")]
    assert len(texts) == 2 and "<script>" in texts[0] and "]]>" in texts[0]
    assert not any("\x1b" in t or "\x00" in t for t in texts)


# GitHub Actions --------------------------------------------------------------------------------


def obeyed(log: str) -> list[tuple[str, dict, str]]:
    """The commands in a log that a runner obeys (actions/runner: ActionCommand, its manager)."""
    found, stopped = [], None
    for text in log.split("\n"):
        match = re.match(r"^::([^ :]+)(?: ([^:]*(?::(?!:)[^:]*)*))?::(.*)$", text.lstrip())
        if stopped is not None:
            if match and match[1] == stopped:
                stopped = None
            continue
        if text.lstrip().startswith("##["):
            found.append((text, {}, ""))
        elif match and match[1] == "stop-commands":
            stopped = match[3]
        elif match:
            given = dict(p.split("=", 1) for p in (match[2] or "").split(",") if p)
            found.append((match[1], given, match[3]))
    assert stopped is None
    return found


def test_a_log_cannot_give_orders():
    assert obeyed(github.fenced(HOSTILE)) == []
    assert len({github.fenced("x") for _ in range(5)}) == 5
    assert len(obeyed(HOSTILE)) > 2  # the reader above does see commands
    with pytest.raises(ValueError, match="token"):
        github.fenced("a TOKEN b", "TOKEN")


def test_annotations_stand_at_the_answers(made):
    path = Path(made["two"].path)
    found = obeyed("\n".join(github.annotations([made["two"]], path.parent)))
    assert [name for name, _, _ in found] == ["error", "error"]
    for (_, given, message), id, points in zip(found, ("01.1", "01.2"), (3, 2)):
        assert given["file"] == "two.ipynb"
        line = path.read_text().split("\n")[int(given["line"]) - 1]
        assert {"01.1": "def scale", "01.2": "def shift"}[id] in line
        assert given["title"].startswith(f"{id} ") and f"%3A {points} points" in given["title"]
        assert message
    assert github.annotations([made["right"], made["stub"]]) == []
    ((_, given, message),) = obeyed("\n".join(github.annotations([made["broken"]])))
    assert given["line"] == "1" and "not JSON" in message


def test_annotations_of_hostile_text():
    lines = github.annotations([hostile(count=30)])
    assert len(lines) == 10 and "21 more" in lines[-1]
    found = obeyed("\n".join(lines))
    assert [name for name, _, _ in found] == ["error"] * 10
    assert all(set(given) <= {"file", "line", "title"} for _, given, _ in found)


def test_the_line_of_an_answer_in_percent_format(tmp_path):
    path = tmp_path / "a.py"
    path.write_text('# %%\nx = 1\n\n# %% tags=["answer"] exercise="01.1"\ndef scale(): ...\n')
    assert github.line_of(path, "01.1") == 4 and github.line_of(path, "01.2") == 1
    assert github.line_of(tmp_path / "nobody.ipynb", "01.1") == 1


def test_a_summary_is_one_page_of_markdown(made):
    page = MarkdownIt("commonmark").enable("table").parse(github.summary([made["two"], hostile()]))
    kinds = [t.type for t in page]
    assert kinds.count("table_open") == 2 and "html_block" not in kinds
    for token in page:
        inner = {t.type for t in token.children or ()}
        assert inner <= {"text", "softbreak", "text_special"}, inner
    assert sum(t.type == "heading_open" and t.tag == "h2" for t in page) == 2
    assert len(github.summary([hostile("x" * 5000, 400)] * 3).encode()) < 2**20


def test_publishing_where_github_wants_it(made, tmp_path):
    environ = {
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_WORKSPACE": str(Path(made["two"].path).parent),
    }
    log: list[str] = []
    github.publish([made["two"], made["right"]], log.append, environ)
    assert len(obeyed("\n".join(log))) == 2
    assert (tmp_path / "output").read_text() == "points=5\nout-of=10\n"
    assert (tmp_path / "summary").read_text().startswith("## Lesson 01\\: 0 of 5 points")
    log.clear()
    github.publish([hostile()], log.append, {})
    assert [c[0] for c in obeyed("\n".join(log))] == ["error"]


# Classrooms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("two",), ("right",), ("broken",), ("right", "partly")])
def test_classroom50(made, names):
    text = classroom.classroom50([made[n] for n in names], ENVIRON, now=0)
    result = json.loads(text)
    jsonschema.validate(result, CLASSROOM50)
    assert result["score"] == sum(made[n].points for n in names)
    assert result["max-score"] == sum(made[n].out_of for n in names)
    assert result["max-score"] == sum(t["max-score"] for t in result["tests"])
    assert all(t["score"] <= t["max-score"] for t in result["tests"])
    assert result["datetime"] == "2026-06-01T14:32:05Z"
    assert result["graded_at"] == "1970-01-01T00:00:00Z"


def test_classroom50_by_its_own_schema_and_runner(made):
    schema = json.loads(published("result-v1.schema.json").read_text())
    spec = importlib.util.spec_from_file_location("runner50", published("runner.py"))
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    for reports in ([made["two"]], [made["right"]], [made["broken"]], [hostile()]):
        result = json.loads(classroom.classroom50(reports, ENVIRON))
        jsonschema.Draft202012Validator(schema).validate(result)
        why = runner.validate_result(
            result, classroom="cs-principles", assignment="toy", owner="alice"
        )
        assert why is None


def test_classroom50_refuses_what_it_cannot_say(made):
    with pytest.raises(FormatError, match="CLASSROOM"):
        classroom.classroom50([made["right"]], {**ENVIRON, "CLASSROOM": ""})
    with pytest.raises(FormatError, match="submit/"):
        classroom.classroom50([made["right"]], {**ENVIRON, "SUBMISSION_TAG": "v1"})
    odd = hostile("a")
    odd.exercises[0].groups = {"main": (0.5, 2)}
    with pytest.raises(FormatError, match="whole"):
        classroom.classroom50([odd], ENVIRON)


def test_held_back_tests_are_not_named(made):
    seen = Visibility(rules={"01.1": "after_published"})
    for text in (
        classroom.classroom50([made["wrong"]], ENVIRON, seen),
        json.dumps(classroom.github_classroom([made["wrong"]], seen)),
        prairielearn.prairielearn(made["wrong"], seen),
        github.summary([made["wrong"]], seen),
        "\n".join(github.annotations([made["wrong"]], None, seen)),
    ):
        assert "Scale" not in text and "pair" not in text and "table" not in text


def reported(encoded: str) -> tuple[float, float]:
    """What education/autograding-grading-reporter makes of a result (main.js, notify-classroom)."""
    results = json.loads(base64.b64decode(encoded, validate=True).decode("utf-8"))
    if not results["max_score"]:
        return 0, 0
    return sum(t["score"] for t in results["tests"]), results["max_score"]


@pytest.mark.parametrize(
    "name, status", [("right", "pass"), ("two", "fail"), ("stub", "fail"), ("broken", "error")]
)
def test_github_classroom(made, name, status):
    result = classroom.github_classroom([made[name]])
    jsonschema.validate(result, GITHUB_CLASSROOM)
    assert result["status"] == status
    line = classroom.encoded(result)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", line)
    assert reported(line) == (made[name].points, made[name].out_of)


def test_github_classroom_gets_a_steps_output(made, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    (tmp_path / "output").write_text("other=1\n")
    commands.write([("github-classroom", None)], [made["two"]])
    first, second = (tmp_path / "output").read_text().splitlines()
    assert first == "other=1" and reported(second.removeprefix("result=")) == (0, 5)


# PrairieLearn ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["right", "wrong", "partly", "stub", "two"])
def test_prairielearn(made, name):
    result = json.loads(prairielearn.prairielearn(made[name]))
    jsonschema.validate(result, PRAIRIELEARN)
    assert result["score"] == made[name].points / made[name].out_of
    assert sum(t["points"] for t in result["tests"]) == made[name].points


def test_prairielearn_does_not_grade_what_is_no_notebook(made):
    result = json.loads(prairielearn.prairielearn(made["broken"]))
    jsonschema.validate(result, PRAIRIELEARN)
    assert result["gradable"] is False and "not JSON" in result["format_errors"][0]


def test_prairielearn_shows_pictures(made):
    images = json.loads(prairielearn.prairielearn(made["wrong"]))["images"]
    assert [i["label"] for i in images] == ["01.1 Scale"]
    drawn = base64.b64decode(images[0]["url"].split(",", 1)[1])
    assert ElementTree.fromstring(drawn).tag.endswith("svg")
    hidden = Visibility(rules={"01.1/float64": "hidden"})
    assert json.loads(prairielearn.prairielearn(made["wrong"], hidden))["images"] == []


@pytest.mark.slow
def test_prairielearn_stays_below_a_megabyte():
    for count in (300, 3000):
        text = prairielearn.prairielearn(hostile("ä" * 3000, count))
        assert len(text.encode()) <= 1_000_000
        result = json.loads(text)
        jsonschema.validate(result, PRAIRIELEARN)
        assert len(result["tests"]) == 2 * count


# The command -----------------------------------------------------------------------------------


def test_formats_by_name(made, tmp_path):
    wanted = commands.parse([f"junit={tmp_path / 'a.xml'}", f"prairielearn={tmp_path / 'b.json'}"])
    commands.write(wanted, [made["two"]])
    assert ElementTree.parse(tmp_path / "a.xml").getroot().tag == "testsuites"
    assert json.loads((tmp_path / "b.json").read_text())["score"] == 0
    with pytest.raises(commands.Trouble, match="there is no format 'junt'"):
        commands.parse(["junt=x"])
    with pytest.raises(commands.Trouble, match="no folder"):
        commands.parse([f"junit={tmp_path / 'none' / 'x.xml'}"])
    with pytest.raises(commands.Trouble, match="one submission"):
        commands.render("gradescope", [made["two"], made["right"]], Visibility())


@pytest.mark.slow
def test_ci_of_one_repository(tmp_path, monkeypatch, capsys):
    if not FORKED:
        pytest.skip("nothing can be forked here")
    from coursework import cli, config

    course = copy_course(tmp_path / "toy")
    work = course.root / "work"
    work.mkdir()
    write(work / "01_a.ipynb", lesson_01(WRONG_SCALE))
    monkeypatch.chdir(course.root)
    monkeypatch.delenv("COURSE_ROOT", raising=False)
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    config.load.cache_clear()
    with pytest.raises(SystemExit) as end:
        cli.main(["ci", "work", "--format", "github", "--format", "junit=junit.xml"])
    assert end.value.code == 1
    said = capsys.readouterr().out
    assert "✗ 01.1 Scale: float32, 0 of 2 points\n    pair: " in said
    ((name, given, _),) = obeyed(said)
    assert (name, given["file"]) == ("error", "work/01_a.ipynb")
    assert ElementTree.parse("junit.xml").getroot()[0].attrib["name"] == "01_a 01"
    write(work / "01_a.ipynb", lesson_01())
    with pytest.raises(SystemExit) as end:
        cli.main(["ci", "work"])
    assert not end.value.code
    assert capsys.readouterr().out.count("✓") == 3
    stub = 'def scale(x, k):\n    raise NotImplementedError("01.1: write scale")\n'
    none = stub.replace("scale", "shift").replace("01.1", "01.2")
    write(work / "01_b.ipynb", lesson_01(stub, none))  # not begun: no reason to be red
    with pytest.raises(SystemExit) as end:
        cli.main(["ci", "work"])
    assert not end.value.code and "not attempted" in capsys.readouterr().out


def test_what_a_log_of_github_quotes_gives_no_orders(monkeypatch, capsys):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for report in (hostile(), hostile("::error::forged"), hostile("\n##[error]forged")):
        with commands.quoted():
            commands.tell([report], Visibility())
        commands.write([("junit", None), ("github-summary", None)], [report])
    said = capsys.readouterr().out
    assert obeyed(said) == [] and "forged" in said
    tokens = re.findall("::stop-commands::(.*)", said)
    assert len(set(tokens)) == len(tokens) == 9


# The workflow ----------------------------------------------------------------------------------


def test_the_workflow_for_repositories(tmp_path):
    import subprocess

    import yaml

    from coursework.formats import workflow

    with pytest.raises(FormatError, match="no student bundle"):
        workflow.write(tmp_path)
    (tmp_path / "release.json").write_text("{}")
    (tmp_path / ".gitignore").write_text(".venv/\nwork/\n")
    workflow.write(tmp_path)
    once = {p: p.read_bytes() for p in workflow.write(tmp_path)}
    assert {p: p.read_bytes() for p in workflow.write(tmp_path)} == once
    made = yaml.safe_load((tmp_path / workflow.NAME).read_text())
    assert made["permissions"] == {"contents": "read"}
    steps = made["jobs"]["check"]["steps"]
    assert any("coursework ci work" in s.get("run", "") for s in steps)
    # Nothing that a learner chooses (a branch, a title) is put into a shell.
    assert not any("${{" in s.get("run", "") for s in steps)
    for name in ("a.ipynb", "progress.json", ".a.lock"):
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "work" / name).write_text("{}")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    done = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], cwd=tmp_path, capture_output=True, text=True
    )
    assert [x[3:] for x in done.stdout.split("\n") if "work/" in x] == ["work/a.ipynb"]


def test_the_workflow_fits_githubs_schema(tmp_path):
    pytest.importorskip("check_jsonschema", reason="check-jsonschema holds the schema")
    import subprocess
    import sys

    from coursework.formats import workflow

    (tmp_path / "release.json").write_text("{}")
    workflow.write(tmp_path)
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    command += ["vendor.github-workflows", str(tmp_path / workflow.NAME)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_notebooks_of_tests_are_notebooks(made):
    for report in made.values():
        if report.verdict != "invalid notebook":
            nbformat.validate(nbformat.read(report.path, 4))
