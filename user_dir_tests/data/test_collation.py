"""What a batch says of itself, by hand."""

import pytest
import torch

from convbert_plugin.data.collation import collate

pytestmark = pytest.mark.pretraining

PAD = 1


def example(number, tokens):
    return {
        "id": number,
        "tokens": torch.tensor(tokens),
        "segments": torch.zeros(len(tokens)).long(),
    }


@pytest.mark.parametrize(
    ("rows", "length", "has_pads"),
    [
        ([(5, 6), (7, 8)], None, False),
        ([(5, 6), (7,)], None, True),
        ([(5, 6), (7, 8)], 3, True),
        # Data that others binarized may hold the pad as a piece.
        ([(5, 6), (7, PAD)], None, True),
    ],
)
def test_a_batch_says_whether_it_holds_pads(rows, length, has_pads):
    batch = collate([example(*row) for row in enumerate(rows)], PAD, "told", length)
    assert batch["net_input"]["has_pads"] is has_pads
    assert batch["net_input"]["output"] == "told"
    assert batch["ntokens"] == sum(map(len, rows))
    assert batch["id"].tolist() == [0, 1]
