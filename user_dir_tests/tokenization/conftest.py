"""Vocabularies that the convbert command trains."""

import pytest

from convbert_plugin.cli import main
from user_dir_tests.tokenization.toy_tokenizers import made_lines


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def vocabulary(request, tmp_path_factory):
    """A folder of ``convbert train-vocab``."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text").write_text("\n".join(made_lines()), encoding="utf-8")
    flags = ("--vocab-size", "180", "--model-type", request.param)
    assert main(["train-vocab", *flags, str(folder / "text"), str(folder / "out")]) == 0
    return folder / "out"
