"""What can go wrong while grading; each kind has an exit code (all of them: ``exits``)."""

from __future__ import annotations

OK, BUG, USAGE, NOT_FOUND, NOT_ISOLATED, STORAGE, NO_WORKER, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130


class GradingError(Exception):
    """Grading cannot go on; ``exit_code`` is what the command ends with."""

    exit_code = BUG


class NothingToGrade(GradingError):
    """No submission where one was expected; the message says where was looked."""

    exit_code = NOT_FOUND


class NotIsolated(GradingError):
    """A batch would run without isolation, and nobody has allowed that."""

    exit_code = NOT_ISOLATED


class GradebookError(GradingError):
    """The gradebook cannot be opened or written; what was in it is still there."""

    exit_code = STORAGE


class WorkerFailed(GradingError):
    """A grading process did not start, or cannot isolate any more; the message says why."""

    exit_code = NO_WORKER
