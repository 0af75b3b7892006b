"""How long a check takes in a notebook, warm: the solution's answer and every misconception's.

    python tests/benchmarks/checks.py [LESSON ...]

Prints one line an exercise and the median over exercises. Exercises that train are a class of
their own. Cold (the first check of a lesson loads its checks) is printed beside.
"""

from __future__ import annotations

import statistics
import sys
import time

from coursework import checks as checks_of
from coursework import config, feedback

RUNS = 5


def seconds(id: str, names: dict) -> float:
    start = time.perf_counter()
    exercise, result = feedback.run_check(id, names)
    from coursework import display

    display.as_html(exercise, result)
    return time.perf_counter() - start


def main() -> None:
    course = config.find(__file__)
    numbers = sys.argv[1:] or checks_of.lessons(course)
    medians: dict[str, float] = {}
    slow: dict[str, float] = {}
    print(f"{'exercise':10}{'first':>9}{'right':>9}{'wrong, worst':>14}   milliseconds")
    for number in numbers:
        checks = checks_of.load(number, course.root)
        for exercise in checks:
            answers = checks.answers[exercise.id]
            right = answers.complete({})
            first = seconds(exercise.id, right)
            runs = 1 if exercise.slow else RUNS
            warm = statistics.median(seconds(exercise.id, right) for _ in range(runs))
            wrong = [
                statistics.median(
                    seconds(exercise.id, answers.complete(m.defines)) for _ in range(2)
                )
                for m in ([] if exercise.slow else answers.misconceptions)
            ]
            worst = max(wrong, default=warm)
            (slow if exercise.slow else medians)[exercise.id] = max(warm, worst)
            print(f"{exercise.id:10}{first * 1e3:9.1f}{warm * 1e3:9.1f}{worst * 1e3:14.1f}")
    if medians:
        values = list(medians.values())
        worst_id = max(medians, key=medians.get)
        print(
            f"median over {len(values)} exercises {statistics.median(values) * 1e3:.1f} ms; "
            f"slowest {worst_id} {max(values) * 1e3:.1f} ms (right and wrong answers, warm)"
        )
    for id, value in slow.items():
        print(f"{id} trains: {value:.1f} s")


if __name__ == "__main__":
    main()
