"""The C++ of the convolutions where there is a compiler, none, a broken one, and odd caches."""

import logging
import stat

import pytest
import torch

from convbert_plugin.ops import cpu_library
from convbert_plugin.ops.convolution_backends import available, kernels_for

pytestmark = pytest.mark.speed

STATES = torch.empty(0)


@pytest.fixture(autouse=True)
def _built_anew():
    """Each test asks for the library as a process of its own would."""
    cpu_library.library.cache_clear()
    yield
    cpu_library.library.cache_clear()


@pytest.fixture
def copying_compiler(tmp_path, monkeypatch):
    """A compiler that takes no time: it copies what was built before, and counts its calls."""
    built = cpu_library.library()
    if built.functions is None:
        pytest.skip(built.lacks)
    cpu_library.library.cache_clear()
    calls = tmp_path / "calls"
    script = tmp_path / "compiler"
    copy = f'for last; do :; done\ncp {built.functions._name} "$last"'
    script.write_text(f"#!/bin/sh\necho call >>{calls}\n{copy}\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return lambda: len(calls.read_text().splitlines()) if calls.exists() else 0


def test_without_a_compiler_it_says_once_what_would_make_it_faster(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert kernels_for("auto", STATES).__name__.endswith(".eager_kernels")
    assert "cpu" not in available(STATES)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert "apt install g++" in lines[0]


def test_what_was_asked_for_and_cannot_run_gives_way_and_says_so(monkeypatch, caplog):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with caplog.at_level(logging.WARNING):
        assert kernels_for("cpu", STATES).__name__.endswith(".eager_kernels")
    assert "--conv-backend cpu: " in caplog.text
    assert "CXX=no-such-compiler" in caplog.text


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch):
    script = tmp_path / "compiler"
    script.write_text("#!/bin/sh\necho 'vectors.h:1: error: too old' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "error: too old" in cpu_library.library().lacks
    assert list((tmp_path / "convbert_plugin").iterdir()) == []


def test_what_cannot_be_loaded_is_no_library(tmp_path, monkeypatch):
    script = tmp_path / "compiler"
    script.write_text('#!/bin/sh\nfor last; do :; done\necho nothing >"$last"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cpu_library.library().functions is None


def test_it_is_built_once(copying_compiler, tmp_path):
    for _ in range(2):
        assert cpu_library.library().functions is not None
        cpu_library.library.cache_clear()
    assert copying_compiler() == 1
    folder = tmp_path / "cache" / "convbert_plugin"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.suffix for path in folder.iterdir()] == [".so"]


def test_other_sources_are_built_anew(copying_compiler, tmp_path, monkeypatch):
    cpu_library.library()
    cpu_library.library.cache_clear()
    changed = tmp_path / "native"
    changed.mkdir()
    for path in cpu_library.SOURCES.iterdir():
        (changed / path.name).write_text(path.read_text() + "\n// changed\n")
    monkeypatch.setattr(cpu_library, "SOURCES", changed)
    cpu_library.library()
    assert copying_compiler() == 2


@pytest.mark.parametrize("why", ["no folder", "of others too"])
def test_a_cache_that_is_not_the_user_s_own_is_left_alone(
    why, copying_compiler, tmp_path, monkeypatch
):
    if why == "no folder":
        (tmp_path / "cache").write_text("a file where the folder would be")
    else:
        (tmp_path / "cache" / "convbert_plugin").mkdir(parents=True)
        (tmp_path / "cache" / "convbert_plugin").chmod(0o777)
    monkeypatch.setattr(cpu_library.tempfile, "tempdir", str(tmp_path))
    assert cpu_library.library().functions._name.startswith(f"{tmp_path}/convbert_plugin-")
