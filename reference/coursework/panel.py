"""Where a learner stands, as the terminal and a notebook show it: points, what is next, minutes."""

from __future__ import annotations

import html

from coursework import config, copies, display, learn, progress

NOTHING_KEPT = (
    "Here stand your points by lesson, what is next, and the minutes that are left. "
    "No progress is kept while lessons are built."
)


class Panel:
    """``status()`` of a notebook: a table a screen reader can read, and the same as text."""

    def __init__(self, rows: list[learn.Standing], files: dict[str, str] | None = None) -> None:
        self.rows, self.files = rows, files or {}

    @property
    def minutes_left(self) -> int:
        """Estimated minutes of core exercises that are not solved."""
        return sum(r.minutes_left for r in self.rows)

    def __repr__(self) -> str:
        if not self.rows:
            return "there are no lessons with exercises here"
        width = max(len(r.title) for r in self.rows)
        lines = [f"{'lesson':<{width + 3}}  {'core':>9}  {'all':>9}  minutes left (estimate, core)"]
        for r in self.rows:
            core, everything = f"{r.core} of {r.core_out_of}", f"{r.points} of {r.out_of}"
            left = str(r.minutes_left) if r.minutes_left else "done"
            lines.append(f"{r.number} {r.title:<{width}}  {core:>9}  {everything:>9}  {left:>5}")
        lines += ["", learn.summary(self.rows)]
        if self.minutes_left:
            lines.append(
                f"About {self.minutes_left} minutes of core exercises are left (an estimate)."
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        esc = html.escape
        if not self.rows:
            return f"<p>{esc(repr(self))}</p>"
        box = display.BOX.format(edge=display.NEUTRAL)
        points, out_of = sum(r.points for r in self.rows), sum(r.out_of for r in self.rows)
        out = [
            f'<div style="{box}"><p style="margin:.2em 0"><b>{points} of {out_of} points.</b> ',
            f"{self._next()}</p>",
            f'<progress max="{out_of}" value="{points}" aria-label="points of the whole course" '
            'style="width:100%"></progress>',
            '<table style="text-align:left"><thead><tr>',
            '<th scope="col" style="text-align:left">lesson</th>',
            *(f'<th scope="col">{h}</th>' for h in ("core", "all", "minutes left")),
            "</tr></thead><tbody>",
        ]
        for r in self.rows:
            left = str(r.minutes_left) if r.minutes_left else "core done"
            out.append(
                f'<tr><th scope="row" style="text-align:left">{self._link(r)}</th>'
                f"<td>{r.core} of {r.core_out_of}</td><td>{r.points} of {r.out_of}</td>"
                f"<td>{left}</td></tr>"
            )
        out.append("</tbody></table>")
        out.append("<small>Minutes are estimates for the exercises of the core.</small></div>")
        return "".join(out)

    def _next(self) -> str:
        ahead = learn.next_lesson(self.rows)
        if ahead is None:
            return "All exercises are solved."
        left = f" About {self.minutes_left} minutes are left." if self.minutes_left else ""
        what = html.escape(f"{ahead.next} {ahead.next_title}")
        return f"Next: {what}, in lesson {self._link(ahead)}.{left}"

    def _link(self, row: learn.Standing) -> str:
        words = html.escape(f"{row.number} {row.title}")
        file = self.files.get(row.number)
        return f'<a href="{html.escape(file, quote=True)}">{words}</a>' if file else words


def status() -> Panel | display.Note:
    """Your points by lesson, what is next, and the minutes left by estimate.

    Reads what checks have noted in ``work/``. Shows a table with links in a notebook.
    """
    if not progress.enabled():
        return display.Note(NOTHING_KEPT)
    try:
        course = config.find()
    except config.CourseNotFound as error:
        return display.Note(str(error))
    files = {n: p.name for n in copies.lessons(course) if (p := copies.of_lesson(course, n))}
    return Panel(learn.standing(course), files)
