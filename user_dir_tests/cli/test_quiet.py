"""What a command does while it imports."""

import contextlib
import gc

import pytest

from convbert_plugin.cli.quiet import importing


@pytest.mark.parametrize("was_enabled", [True, False])
def test_garbage_is_collected_after_an_import_as_before_it(was_enabled):
    (gc.enable if was_enabled else gc.disable)()
    try:
        with contextlib.suppress(ImportError), importing():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == was_enabled
    finally:
        gc.enable()


def test_what_was_imported_is_never_looked_through_again():
    with importing():
        kept = [[] for _ in range(1000)]
    assert not any(found is one for found in gc.get_objects() for one in kept[:3])
