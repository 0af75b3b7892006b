"""Fixtures for the tests of ``coursework``."""

import pytest
import small_course

from coursework import build, checks, config, feedback


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A small course, found from the current folder, with its lesson as a learner opens it."""
    made = small_course.make(tmp_path / "course")
    caches = (config.load, checks.load, feedback._course, feedback._exercise, feedback._live)
    for cache in caches:
        cache.cache_clear()
    source = build.sources(made)[0]
    build.write(source.lesson_path, build.compose(source, lesson=True))
    monkeypatch.delenv("COURSE_ROOT", raising=False)
    monkeypatch.chdir(made.root)
    yield made
    for cache in caches:
        cache.cache_clear()
