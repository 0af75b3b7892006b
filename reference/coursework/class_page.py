"""The class page: what ``class_summary`` counts, in one file of HTML."""

from __future__ import annotations

from collections.abc import Sequence

from coursework import pages
from coursework.class_summary import LessonSummary
from coursework.student_page import number


def page(lessons: Sequence[LessonSummary], course: str, knows: bool = False) -> str:
    """The page. knows: whether the mistakes that checks can name were given to ``summarise``."""
    return pages.render("class.html", lessons=lessons, course=course, knows=knows, number=number)
