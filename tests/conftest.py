"""Fixtures for the tests of both packages."""

import os

# One thread, as `make test` has it: sums are rounded alike everywhere, and small ones are faster.
# Before torch is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


@pytest.fixture
def run(capsys):
    """Runs ``course`` in this process: (exit code, what it printed, what it said on stderr)."""

    cli = pytest.importorskip("coursework.cli")

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            cli.main([str(a) for a in arguments])
            code = 0
        except SystemExit as end:
            code = end.code or 0
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run
