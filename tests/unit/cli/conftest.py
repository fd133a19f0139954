from pathlib import Path

import pytest

from cli.main import run
from tests.unit.cli.answers import Answer, Npuq


@pytest.fixture
def npuq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Npuq:
    """Return a function that runs the command line in the home where `sqlite_world` lives."""
    monkeypatch.setenv("NPUQ_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Answer:
        capsys.readouterr()
        code = run(list(arguments))
        captured = capsys.readouterr()
        return Answer(code=code, out=captured.out, err=captured.err)

    return call
