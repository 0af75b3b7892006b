"""Pages in one file: every text is cleaned and escaped, and nothing is fetched from anywhere.

A page may hold what a stranger wrote, so three walls stand one behind the other: control signs
are taken out, the template engine escapes what is not markup of this package, and a policy in the
page forbids the browser scripts and requests, should both have failed.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from coursework.safe import plain

HERE = Path(__file__).parent
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'"


def _finalize(value: Any) -> Any:
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@lru_cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.globals["style"] = Markup((HERE / "templates" / "page.css").read_text(encoding="utf-8"))
    return made


def render(template: str, script: str = "", **values: Any) -> str:
    """The page made from ``templates/NAME``; ``script`` is a file beside it, the only one that the
    page lets run (its hash stands in the policy)."""
    policy, text = POLICY, ""
    if script:
        text = (HERE / "templates" / script).read_text(encoding="utf-8")
        digest = b64encode(hashlib.sha256(text.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    page = _environment().get_template(template)
    return page.render(policy=Markup(policy), script=Markup(text), **values)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """An empty file beside ``path``, its owner's alone, that takes its place if all went well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
    os.close(handle)
    try:
        yield Path(name)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Writes ``text`` whole or not at all; only the owner may read it unless ``mode`` says more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
        part.chmod(mode)


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A name for a file for each of ``names``: readable, harmless on every system, all different.

    Where letters had to go, or two would be the same, a piece of a hash keeps them apart.
    """
    names = list(dict.fromkeys(names))
    short_names = {n: re.sub(r"[^\w.@+-]+", "_", plain(n)).strip("._")[:80] for n in names}
    folded = [p.casefold() for p in short_names.values()]
    made = {}
    for name, short in short_names.items():
        reserved = re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", short)
        if short != name or reserved or folded.count(short.casefold()) > 1:
            data = name.encode("utf-8", "surrogatepass")
            short = f"{short or 'student'}-{hashlib.sha256(data).hexdigest()[:8]}"
            short = f"_{short}" if reserved else short
        made[name] = short
    return made
