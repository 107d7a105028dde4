"""How the package is laid out."""

import sys
from collections import Counter
from pathlib import Path

import convbert_plugin

PACKAGE = Path(convbert_plugin.__file__).parent
MODULES = [path for path in PACKAGE.rglob("*.py") if not path.stem.startswith("__")]
MOST_LINES = 400


def test_no_two_modules_share_a_name():
    counted = Counter(path.stem for path in MODULES)
    assert len(counted) > 50
    assert [name for name, count in counted.items() if count > 1] == []


def test_no_module_has_the_name_of_a_standard_one():
    assert [path for path in MODULES if path.stem in sys.stdlib_module_names] == []


def test_no_module_is_long():
    lines = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}
