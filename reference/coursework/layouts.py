"""Whose a file is, by where it lies and how it is called.

Five layouts. ``flat``: a file a student. ``folders``: a folder a student. ``canvas``: flat, as
Canvas names downloads: ``lovelaceada_LATE_1234_567890_05_training-1.ipynb`` (sortable name, LATE
where it was, user, attachment, the file's own name; ``anon_XXXXX`` for the first where names are
hidden). ``moodle``: ``Ada Lovelace_123456_assignsubmission_file_/05_training.ipynb``, or the same
without a folder. ``gradescope``: ``assignment_1_export/submission_123/...`` and, beside those
folders, ``submission_metadata.yml``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from coursework.names import clean

LAYOUTS = ("flat", "folders", "canvas", "moodle", "gradescope")
METADATA = "submission_metadata.yml"
CANVAS = re.compile(
    r"^(?:(?P<name>(?!LATE_|anon_)\w+?)_)?(?:(?P<late>LATE)_)?(?P<user>\d+|anon_\w{4,8})_(?P<file_id>\d+)"
    r"_(?P<file>.+)$"
)
MOODLE = re.compile(
    r"^(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)(?:_(?P<file>.*))?$"
)
GRADESCOPE = re.compile(r"^submission_(?P<id>\d+)$")
KINDS = (".ipynb", ".py")


@dataclass(frozen=True)
class Handed:
    """Whose a file is. student: what the gradebook calls them; name and ids: what the platform
    says; late: its stamp; when: ISO time of handing in or ""; attempt: grows from one attempt to
    the next, 0 where unknown; raw: the student as written, before cleaning; parts: the path."""

    parts: tuple[str, ...]
    student: str
    raw: str
    name: str = ""
    ids: tuple[str, ...] = ()
    late: bool = False
    when: str = ""
    attempt: int = 0


def visible(parts: tuple[str, ...]) -> bool:
    """Whether a file counts: not hidden, no leftover of an editor or of macOS."""
    return bool(parts) and not any(p.startswith((".", "__")) for p in parts)


def recognise(paths: Iterable[tuple[str, ...]]) -> str:
    """The layout of files whose paths, relative to the folder or zip, are ``paths``."""
    paths = [p for p in paths if visible(p)]
    if any(p[-1] == METADATA and len(p) == 1 for p in paths):
        return "gradescope"
    tops = {p[0] for p in paths if len(p) > 1}
    work = [p for p in paths if p[-1].endswith(KINDS)]
    flat = [p[0] for p in work if len(p) == 1]
    moodle = sum(bool(MOODLE.match(t)) for t in tops) + sum(bool(MOODLE.match(f)) for f in flat)
    if moodle and 2 * moodle >= len(tops) + len(flat):
        return "moodle"
    if tops and all(GRADESCOPE.match(t) for t in tops):
        return "gradescope"
    canvas = [m for f in flat if (m := CANVAS.match(f)) and (m["name"] or "anon" in m["user"])]
    if canvas and 2 * len(canvas) >= len(flat) and all(len(m["file_id"]) > 2 for m in canvas):
        return "canvas"
    return "folders" if tops and not flat else "flat"


def common_folder(paths: Iterable[tuple[str, ...]]) -> str:
    """The one folder that all visible files lie in, or ""."""
    paths = [p for p in paths if visible(p)]
    tops = {p[0] for p in paths}
    return tops.pop() if len(tops) == 1 and all(len(p) > 1 for p in paths) else ""


def assign(
    paths: Iterable[tuple[str, ...]], layout: str, metadata: Callable[[], Any] | None = None
) -> list[Handed]:
    """Whose each visible file is. metadata: gives the content of Gradescope's file, parsed."""
    paths = [p for p in paths if visible(p)]
    if layout == "canvas":
        found = [_canvas(p) for p in paths]
    elif layout == "moodle":
        found = _moodle(paths)
    elif layout == "gradescope":
        found = _gradescope(paths, metadata() if metadata else None)
    else:
        found = [_plain(p) for p in paths]
    return found


def _plain(parts: tuple[str, ...]) -> Handed:
    raw = parts[0] if len(parts) > 1 else parts[0].rpartition(".")[0] or parts[0]
    return Handed(parts, clean(raw), raw)


def _canvas(parts: tuple[str, ...]) -> Handed:
    match = CANVAS.match(parts[0]) if len(parts) == 1 else None
    if not match:
        return _plain(parts)
    name, user = clean(match["name"] or "anonymous"), match["user"]
    raw = f"{match['name'] or ''}_{user}"
    student = f"{name}_{user}" if match["name"] else user
    late, attempt = bool(match["late"]), int(match["file_id"])
    return Handed(parts, student, raw, name, (user,), late, "", attempt)


def _moodle(paths: list[tuple[str, ...]]) -> list[Handed]:
    found = []
    people: defaultdict[str, set[str]] = defaultdict(set)
    for parts in paths:
        match = MOODLE.match(parts[0])
        if not match:
            found.append(_plain(parts))
            continue
        name = clean(match["name"])
        people[name].add(match["id"])
        found.append(Handed(parts, name, match["name"], name, (match["id"],)))
    # Two of the same name, or "Participant" where names are hidden: the number tells them apart.
    return [
        replace(h, student=f"{h.name} ({h.ids[0]})") if h.ids and len(people[h.name]) > 1 else h
        for h in found
    ]


def _gradescope(paths: list[tuple[str, ...]], metadata: Any) -> list[Handed]:
    table = metadata if isinstance(metadata, dict) else {}
    people = {folder: _submitters(entry) for folder, entry in table.items()}
    found = []
    for parts in paths:
        match = GRADESCOPE.match(parts[0])
        if len(parts) < 2:
            if parts[0] != METADATA:
                found.append(_plain(parts))
            continue
        known = people.get(parts[0]) or []
        entry = table.get(parts[0])
        when = _time(entry.get(":created_at")) if isinstance(entry, dict) else ""
        attempt = int(match["id"]) if match else 0
        if not known:
            found.append(replace(_plain(parts), when=when, attempt=attempt))
        for key, name, ids in known:
            found.append(Handed(parts, key, key, name, ids, False, when, attempt))
    return found


def _submitters(entry: Any) -> list[tuple[str, str, tuple[str, ...]]]:
    """(key, name, ids) of those who handed in; a group has several."""
    people = entry.get(":submitters") if isinstance(entry, dict) else None
    found = []
    for person in people if isinstance(people, list) else ():
        if isinstance(person, dict):
            name, *ids = (clean(str(person.get(f":{k}") or "")) for k in ("name", "sid", "email"))
            ids = tuple(i for i in ids if i != "unnamed")
            found.append((ids[0] if ids else name, name, ids))
    return found


def _time(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value or "")[:40]
