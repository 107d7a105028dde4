"""The convbert command in this process, and what it prints."""

import pytest

from convbert_plugin.cli import main


@pytest.fixture
def convert(capsys):
    """Run ``convbert convert``; the destination and the lines printed."""

    def run(origin, target, source, destination, *options):
        words = ("convert", "--from", origin, "--to", target, source, destination, *options)
        assert main([str(word) for word in words]) == 0
        return destination, capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def convert_fails(tmp_path):
    """Run ``convbert convert`` to its error of one line; nothing may be left of the destination."""

    def run(origin, target, source, destination, *options):
        words = ("convert", "--from", origin, "--to", target, source, destination, *options)
        before = set(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        line = ended.value.code
        assert isinstance(line, str), line
        assert "\n" not in line
        assert set(tmp_path.rglob("*")) == before
        return line

    return run
