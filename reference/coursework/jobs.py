"""What goes to a learner's process and what comes back, as the judge's side sees it."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coursework import wire, worker
from coursework.harness import Outcome

SLACK = 5.0  # seconds beyond an exercise's own limit, for its cells to run
MEMORY = 2 * 2**30
SCRATCH = 64 * 2**20
HEADER_LIMIT = 16 * 2**20


@dataclass
class Job:
    """One exercise to run: ``request`` is what ``harness.serve`` takes."""

    id: str
    lesson: str
    checks: Path
    library: str
    request: dict
    slack: float

    @property
    def limit(self) -> float:
        """Seconds that the exercise's cases may take."""
        return self.request["limit"]

    @property
    def seconds(self) -> float:
        """Seconds after which its process is ended: the cells have the slack for themselves."""
        return self.limit + self.slack

    @property
    def count(self) -> int:
        return len(self.request["cases"])


@dataclass
class Task:
    """One submission's jobs, and what has come of them: exercise id -> outcomes."""

    key: Any
    jobs: list[Job]
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)

    def left(self) -> list[Job]:
        return [j for j in self.jobs if j.id not in self.outcomes]

    def lose(self) -> None:
        """Notes that the process is gone; the exercise it was at is given up the second time.

        Once may be another's doing: something that an earlier submission left behind.
        """
        for job in self.left()[:1]:
            self.losses[job.id] = self.losses.get(job.id, 0) + 1
            if self.losses[job.id] > 1:
                self.outcomes[job.id] = ended(job, "lost")


def ended(job: Job, end: str, code: int = 0) -> list[Outcome]:
    """Outcomes of a job that gave no response."""
    says = {
        "timeout": ("timeout", f"no result after {job.limit:g} s"),
        "memory": ("memory", f"more than the {MEMORY >> 30} GiB of memory allowed"),
        "too large": ("invalid", f"the result has over {worker.RESPONSE_LIMIT >> 20} MB"),
        "exit": ("crashed", f"the answer ended its process (exit code {code})"),
        "no room": ("crashed", "the process could not be set up"),
        "lost": ("crashed", "the process was lost while it ran"),
    }
    if end == "signal":
        name = signal.Signals(code).name if code in list(signal.Signals) else code
        says["signal"] = ("crashed", f"the process was ended by signal {name}")
    status, message = says.get(end, ("crashed", "the answer ended its process"))
    return [Outcome(status, message=message) for _ in range(job.count)]


def read_response(data: bytes, job: Job) -> list[Outcome]:
    """Outcomes out of a learner's process; anything odd makes them "invalid", with the reason."""
    try:
        if len(data) < 12:
            return ended(job, "exit")
        if int.from_bytes(data[4:12], "little") > HEADER_LIMIT:
            raise wire.WireError("its description is too large")
        message = wire.decode(data, worker.RESPONSE_LIMIT)
        found = [Outcome.from_dict(o) for o in message["outcomes"]]
        if len(found) != job.count:
            raise wire.WireError(f"{len(found)} outcomes for {job.count} cases")
        return found
    except Exception as error:
        text = f"what the process returned is not a result: {type(error).__name__}: {error}"
        return [Outcome("invalid", message=text[:300]) for _ in range(job.count)]


def environment() -> dict[str, str]:
    """What grading processes get of this one's environment: nothing that could be secret."""
    names = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "HOME", "USERPROFILE")
    kept = {n: os.environ[n] for n in names if n in os.environ}
    threads = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "VECLIB_MAXIMUM")
    kept.update({f"{name}_NUM_THREADS": "1" for name in threads})
    return kept | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
        "LANG": "C.UTF-8",
    }
