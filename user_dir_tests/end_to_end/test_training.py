"""Training and validating through fairseq's own entry points."""

import math

import pytest

pytestmark = pytest.mark.pretraining


def test_x(corpus, fairseq_train, tmp_path, caplog):
    import time
    for i in range(3):
        t = time.time()
        run = fairseq_train(corpus.data, tmp_path / f"a{i}", "--max-update", "4")
        print(time.time() - t)
    print(run.logs)
    print(run.folder, list(run.folder.iterdir()))
    print(caplog.text[:3000])
    assert 0
