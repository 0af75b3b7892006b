"""What other systems say of their formats, in our words, as JSON Schemas for tests.

Published schemas whose licence or size keeps them out of this repository are used as well where
COURSE_SCHEMAS names a folder with them: ``result-v1.schema.json`` and ``runner.py`` of Classroom
50 (foundation50/classroom50).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

INSTANT = r"^\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$"
WORD = {"type": "string", "minLength": 1}
WHOLE = {"type": "integer", "minimum": 0}

# Wiki "Advanced Autograding", "The result.json contract".
CLASSROOM50 = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "schema", "classroom", "assignment", "assignment_type", "owner", "submission", "commit",
        "release", "review", "datetime", "score", "max-score", "tests",
    ],
    "properties": {
        "schema": {"const": "classroom50/result/v1"},
        **{k: WORD for k in ("classroom", "assignment", "owner", "commit", "release", "review")},
        "assignment_type": {"enum": ["individual", "group", "team"]},
        "submission": {"type": "string", "pattern": "^submit/"},
        "datetime": {"type": "string", "pattern": INSTANT},
        "graded_at": {"type": "string", "pattern": INSTANT},
        "score": WHOLE,
        "max-score": WHOLE,
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["test-name", "passed", "score", "max-score"],
                "properties": {
                    "test-name": WORD,
                    "passed": {"type": "boolean"},
                    "score": WHOLE,
                    "max-score": WHOLE,
                },
            },
        },
    },
}  # fmt: skip

# "Autograder Specifications", "Output format"; with its newer keys for formats and status.
SEEN = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
TEXT = {"enum": ["text", "html", "simple_format", "md", "ansi"]}
GRADESCOPE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tests"],
    "properties": {
        "score": {"type": "number"},
        "execution_time": {"type": "number", "minimum": 0},
        "output": {"type": "string"},
        "output_format": TEXT,
        "test_output_format": TEXT,
        "test_name_format": TEXT,
        "visibility": SEEN,
        "stdout_visibility": SEEN,
        "extra_data": {"type": "object"},
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "score": {"type": "number", "minimum": 0},
                    "max_score": {"type": "number", "minimum": 0},
                    "status": {"enum": ["passed", "failed"]},
                    "name": WORD,
                    "name_format": TEXT,
                    "number": WORD,
                    "output": {"type": "string"},
                    "output_format": TEXT,
                    "tags": {"type": "array", "items": WORD},
                    "visibility": SEEN,
                    "extra_data": {"type": "object"},
                },
            },
        },
    },
}

# "External grading", "Grading results".
IMAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["url"],
        "properties": {
            "label": {"type": "string"},
            "url": {"type": "string", "pattern": "^data:image/(png|svg\\+xml);base64,"},
        },
    },
}
PRAIRIELEARN = {
    "type": "object",
    "properties": {
        "gradable": {"type": "boolean"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "format_errors": {"type": ["string", "array"], "items": {"type": "string"}},
        "message": {"type": "string"},
        "output": {"type": "string"},
        "images": IMAGES,
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "points", "max_points"],
                "properties": {
                    "name": WORD,
                    "points": {"type": "number", "minimum": 0},
                    "max_points": {"type": "number", "exclusiveMinimum": 0},
                    "message": {"type": "string"},
                    "images": IMAGES,
                },
            },
        },
    },
    "if": {"properties": {"gradable": {"const": False}}, "required": ["gradable"]},
    "else": {"required": ["score"]},
}

# education/autograding-grading-reporter, what src/ reads of each result.
GITHUB_CLASSROOM = {
    "type": "object",
    "required": ["version", "status", "max_score", "tests"],
    "properties": {
        "version": {"const": 1},
        "status": {"enum": ["pass", "fail", "error"]},
        "max_score": {"type": "number", "minimum": 0},
        "tests": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "status", "score", "message"],
                "properties": {
                    "name": WORD,
                    "status": {"enum": ["pass", "fail", "error"]},
                    "score": {"type": "number", "minimum": 0},
                },
            },
        },
    },
}


def published(name: str) -> Path:
    """A file of COURSE_SCHEMAS; skips the test where it is not at hand."""
    folder = os.environ.get("COURSE_SCHEMAS")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip(f"COURSE_SCHEMAS names no folder that holds {name}")
    return Path(folder) / name


def python_of(variable: str, module: str) -> str:
    """The Python that ``variable`` names, with ``module``; skips the test where there is none."""
    import subprocess

    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no Python with {module} (see test_formats_clients.py)")
    done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{variable}: {module} cannot be imported: {done.stderr.strip()[-200:]}")
    return python
