"""Exit codes of ``course``, by kind of trouble. The README's table is made of ``MEANS``."""

OK = 0
NOT_RIGHT = 1
USAGE = 2
NOT_FOUND = 3
INVALID = 4
NOT_ISOLATED = 5
CANNOT_WRITE = 6
INTERRUPTED = 130

MEANS = {
    OK: "done; for `check`, full points",
    NOT_RIGHT: "done, and something is not right: points are missing, notebooks are stale, a "
    "check of the environment failed",
    USAGE: "the command line is not understood",
    NOT_FOUND: "no course here, or no such file, folder, lesson or exercise",
    INVALID: "not a notebook, an empty folder, a source that cannot be built",
    NOT_ISOLATED: "grading refused: isolation is not to be had here (--allow-unisolated)",
    CANNOT_WRITE: "a file cannot be written: read-only, disk full, gradebook in use",
    INTERRUPTED: "stopped with Ctrl-C",
}


def epilog() -> str:
    """The table as text, for ``course --help``."""
    rows = (f"{code:>5}  {text}" for code, text in MEANS.items())
    return "Exit codes:\n\n\b\n" + "\n".join(rows)
