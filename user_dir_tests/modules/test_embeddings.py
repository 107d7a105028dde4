"""The sum of the three tables, and what is too long for them."""

import numpy as np
import pytest
import torch

from convbert_plugin.errors import UserError
from convbert_plugin.modules.embeddings import Embeddings
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

VOCABULARY, POSITIONS, WIDTH = 23, 11, 5


def embeddings():
    torch.manual_seed(1)
    return Embeddings(VOCABULARY, POSITIONS, WIDTH, dropout=0.0).double()


def test_equal_the_loops():
    module = embeddings()
    rng = np.random.default_rng(1)
    tokens, segments = rng.integers(0, VOCABULARY, (3, 7)), rng.integers(0, 2, (3, 7))
    torch.nn.init.normal_(module.layer_norm.weight)
    torch.nn.init.normal_(module.layer_norm.bias)
    tables = {name: values.numpy() for name, values in module.state_dict().items()}
    expected = np.zeros((3, 7, WIDTH))
    for row in range(3):
        for time in range(7):
            summed = tables["tokens.weight"][tokens[row, time]]
            summed = summed + tables["segments.weight"][segments[row, time]]
            summed = summed + tables["positions.weight"][time]
            normalized = (summed - summed.mean()) / np.sqrt(summed.var() + 1e-12)
            scaled = normalized * tables["layer_norm.weight"] + tables["layer_norm.bias"]
            expected[row, time] = scaled
    result = module(torch.tensor(tokens), torch.tensor(segments))
    assert relative_error(result, expected) <= TOLERANCES[torch.float64]["operation"]


def test_the_pad_has_an_ordinary_row_that_learns():
    module = embeddings()
    tokens = torch.zeros(1, 4, dtype=torch.long)
    module(tokens, tokens).square().mul(torch.arange(WIDTH)).sum().backward()
    assert module.tokens.weight[0].abs().max() > 0
    assert module.tokens.weight.grad[0].abs().max() > 0


def test_as_long_as_the_position_table_and_no_longer():
    module = embeddings()
    longest = torch.zeros(1, POSITIONS, dtype=torch.long)
    assert module(longest, longest).shape == (1, POSITIONS, WIDTH)
    longer = torch.zeros(1, POSITIONS + 1, dtype=torch.long)
    with pytest.raises(UserError, match=r"12 tokens .* 11 positions.*--max-positions") as raised:
        module(longer, longer)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("rows", [0, -1])
def test_a_position_table_has_rows(rows):
    with pytest.raises(UserError, match=f"--max-positions {rows}: choose"):
        Embeddings(VOCABULARY, rows, WIDTH, 0.1)
