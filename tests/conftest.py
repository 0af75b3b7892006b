"""Fixtures for the tests of both packages."""

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
