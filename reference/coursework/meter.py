"""Progress of a long grading: a live bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any, TextIO

from coursework.reports import SubmissionReport

FEW = 20
PAUSE = 60.0


class Meter:
    """Counts reports as they come. A context manager.

    On a terminal, a bar with the time left and the verdicts so far. Elsewhere a line for each
    tenth, or after a minute without one, and none for fewer than ``FEW`` submissions.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.total = self.count = self.reused = 0
        self.verdicts: Counter[str] = Counter()
        self.bar: Any = None
        self.task: Any = None
        self.told = 0.0

    def __enter__(self) -> Meter:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.bar is not None:
            self.bar.stop()

    def start(self, total: int) -> None:
        """``total`` submissions are to come."""
        self.total, self.told = total, time.monotonic()
        if self.stream.isatty() and total > 1:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            self.bar = Progress(
                "grading",
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                "{task.description}",
                console=Console(file=self.stream),
                transient=True,
            )
            self.task = self.bar.add_task("", total=total)
            self.bar.start()

    def __call__(self, report: SubmissionReport) -> None:
        """One more is done."""
        self.count += 1
        self.reused += report.reused
        self.verdicts[report.verdict] += 1
        if self.bar is not None:
            self.bar.update(self.task, advance=1, description=self.text())
        elif self.total >= FEW and self._due():
            self.told = time.monotonic()
            print(f"{self.count} of {self.total} graded: {self.text()}", file=self.stream)
            self.stream.flush()

    def _due(self) -> bool:
        tenth = self.count * 10 // self.total > (self.count - 1) * 10 // self.total
        return tenth or time.monotonic() - self.told > PAUSE

    def text(self) -> str:
        """Verdicts so far, the most common first."""
        parts = [f"{n} {verdict}" for verdict, n in self.verdicts.most_common()]
        return ", ".join(parts) + (f" ({self.reused} known already)" if self.reused else "")
