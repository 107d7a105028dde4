"""The commit of a checkout, as git itself says it."""

import os
import subprocess
from pathlib import Path

import pytest

from convbert_plugin.files.host import commit_of, processor_maker, processor_name

pytestmark = pytest.mark.experiments


def git(folder, *words):
    author = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    git(tmp_path, "tag", "v1", "--annotate", "--message", "one")
    return tmp_path


def commit(folder):
    commit_of.cache_clear()
    return commit_of(folder)


def test_a_commit_and_whether_it_was_changed(checkout, monkeypatch):
    head = git(checkout, "rev-parse", "HEAD")
    # What names another repository to git, in its hooks.
    monkeypatch.setenv("GIT_DIR", os.devnull)
    assert commit(checkout) == head
    (checkout / "b.py").write_text("untracked\n")
    assert commit(checkout) == head
    (checkout / "a.py").write_text("a = 2\n")
    assert commit(checkout) == f"{head}-dirty"


def test_what_is_no_checkout_has_no_commit(checkout, monkeypatch):
    # As an environment within a repository that is another project's.
    (checkout / "environment").mkdir()
    assert commit(checkout / "environment") is None
    monkeypatch.setenv("PATH", "")
    assert commit(checkout) is None


def test_the_processor_has_a_name():
    assert str(os.cpu_count()) in processor_name()


def test_the_maker_of_the_processor_is_the_system_s():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    said = [line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")]
    assert processor_maker() == (said[0] if said else "")
