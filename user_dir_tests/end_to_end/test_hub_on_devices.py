"""The hub interface on every device: each of its doors against a copy in float64 on the CPU."""

import copy

import pytest
import torch

from convbert_plugin import ConvBertModel
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = [pytest.mark.weights, pytest.mark.speed]

TEXTS = [("the small cat sees a mouse.", "the dog called."), ("a bird!",), ("the old dog.", "a")]
MASKED = "the [MASK] sees a mouse."
# Of features with a deviation of 1, and of probabilities.
TOLERANCE = TOLERANCES[torch.float32]["padding"]


@pytest.fixture
def exact(pretrained):
    convbert = ConvBertModel.from_pretrained(pretrained.folder)
    for name, classes in (("topic", 3), ("score", 1)):
        convbert.register_classification_head(name, classes)
    return convbert.double()


@pytest.fixture
def convbert(exact, device):
    return copy.deepcopy(exact).float().to(device)


@pytest.fixture
def batch(exact):
    """On the CPU, as ``encode`` gives it."""
    ids = [exact.encode(*text) for text in TEXTS]
    pad = exact.vocabulary.pad()
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=pad)


DOORS = {
    "features": lambda convbert, batch: convbert.extract_features(batch),
    "levels": lambda convbert, batch: torch.stack(
        convbert.extract_features(batch, return_all_hiddens=True)
    ),
    "segments": lambda convbert, batch: convbert.extract_features(batch, torch.zeros_like(batch)),
    "attention": lambda convbert, batch: convbert.extract_attention(batch).attention,
    "kernels": lambda convbert, batch: convbert.extract_attention(batch).kernels,
    "replaced": lambda convbert, batch: convbert.detect_replaced(batch),
    "classes": lambda convbert, batch: convbert.predict("topic", batch),
    "logits": lambda convbert, batch: convbert.predict("topic", batch, return_logits=True),
    "score": lambda convbert, batch: convbert.predict("score", batch),
}


@pytest.mark.parametrize("door", DOORS)
@torch.no_grad()
def test_every_door_gives_the_answers_of_float64(exact, convbert, batch, device, door):
    result, expected = DOORS[door](convbert, batch), DOORS[door](exact, batch)
    assert result.device.type == device.type
    assert result.dtype == torch.float32
    assert (result.cpu() - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1)
    one = exact.encode(*TEXTS[0])
    alone, expected = DOORS[door](convbert, one), DOORS[door](exact, one)
    assert (alone.cpu() - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp(min=1)


def test_masks_are_filled_alike(exact, convbert):
    filled, expected = convbert.fill_mask(MASKED), exact.fill_mask(MASKED)
    assert [guess.text for guess in filled] == [guess.text for guess in expected]
    chances = [guess.probability for guess in expected]
    assert [guess.probability for guess in filled] == pytest.approx(chances, abs=TOLERANCE)


def test_texts_and_back(exact, convbert, batch, device):
    assert convbert.device.type == device.type
    for text, row in zip(TEXTS, batch, strict=True):
        assert torch.equal(convbert.encode(*text), exact.encode(*text))
        assert convbert.decode(row.to(device)) == exact.decode(row)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@torch.no_grad()
def test_in_half_precision(exact, convbert, batch, dtype):
    convbert.to(dtype)
    features = convbert.extract_features(batch)
    assert features.dtype == dtype
    assert relative_error(features, exact.extract_features(batch)) <= TOLERANCES[dtype]["model"]
    assert convbert.detect_replaced(batch).isfinite().all()
    assert convbert.predict("topic", batch).isfinite().all()
    assert len(convbert.fill_mask(MASKED)) == 5
