"""Exit codes of ``course``, by kind of trouble. The README's table is made of ``MEANS``."""

from coursework.errors import (
    INTERRUPTED,
    NO_WORKER,
    NOT_FOUND,
    NOT_ISOLATED,
    OK,
    STORAGE,
    USAGE,
)

NOT_RIGHT = 1
INVALID = 7

MEANS = {
    OK: "done; for check, with full points",
    NOT_RIGHT: "not all is right: points missing, notebooks stale, machine unfit (or a bug)",
    USAGE: "the command line is not understood",
    NOT_FOUND: "no course here, no such file, lesson or exercise, or an empty folder",
    NOT_ISOLATED: "no isolation here to grade a batch in (--allow-unisolated)",
    STORAGE: "cannot be read or written: read-only, disk full, gradebook in use",
    NO_WORKER: "a grading process, or JupyterLab, did not start",
    INVALID: "a file that cannot be used: no notebook, a source that cannot be built, bad data",
    INTERRUPTED: "stopped with Ctrl-C; what was done is kept",
}


def epilog() -> str:
    """The table as text, for ``course --help``."""
    rows = (f"{code:>5}  {text}" for code, text in MEANS.items())
    return "Exit codes:\n\n\b\n" + "\n".join(rows)


def markdown() -> str:
    """The table for the README."""
    rows = "\n".join(f"| {code} | {text} |" for code, text in MEANS.items())
    return f"| exit code | meaning |\n|---:|---|\n{rows}"
