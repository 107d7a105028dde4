"""What a training leaves out of its log."""

import logging
import warnings

import pytest

from convbert_plugin.training.library_noise import OF_EPOCHS, silence


@pytest.fixture
def level():
    logger = logging.getLogger(OF_EPOCHS)
    before = logger.level
    logger.setLevel(logging.NOTSET)
    yield logger
    logger.setLevel(before)


def test_libraries_about_fairseq(level):
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    words = ["data", "--task", "language_modeling", "--arch", "transformer_lm"]
    arguments = options.parse_args_and_arch(options.get_training_parser(), words)
    told = {}
    for is_silent in (False, True):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if is_silent:
                silence()
            convert_namespace_to_omegaconf(arguments)
            warnings.warn("of something else", stacklevel=1)
        told[is_silent] = [str(warning.message) for warning in caught]
    assert len(told[False]) > 4
    assert told[True] == ["of something else"]


def test_how_batches_are_cached_is_no_news(level, caplog):
    silence()
    caplog.set_level("INFO")
    level.info("creating new batches for epoch 1")
    level.warning("something is wrong")
    assert caplog.messages == ["something is wrong"]
