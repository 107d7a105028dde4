"""Arrays written row by row are read by numpy as they were."""

import numpy as np
import pytest

from convbert_plugin.files.array_files import array_file

pytestmark = pytest.mark.squad


@pytest.mark.parametrize(("kind", "columns"), [(np.int32, (2,)), (np.int32, ()), (np.bool_, ())])
@pytest.mark.parametrize("counts", [(), (0,), (3, 0, 5), (1,) * 1200])
def test_numpy_reads_the_rows(tmp_path, kind, columns, counts):
    rng = np.random.default_rng(1)
    parts = [rng.integers(0, 99, (count, *columns)).astype(kind) for count in counts]
    with array_file(tmp_path / "a.npy", kind, *columns) as array:
        for part in parts:
            array.append(part)
    whole = np.concatenate([np.zeros((0, *columns), kind), *parts])
    for mode in (None, "r"):
        read = np.load(
            tmp_path / "a.npy", allow_pickle=False, mmap_mode=mode if len(whole) else None
        )
        assert read.dtype == kind
        np.testing.assert_array_equal(read, whole)
