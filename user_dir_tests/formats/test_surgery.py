"""Tables of another length, against rows written down by hand."""

import pytest
import torch

from convbert_plugin.formats.surgery import compose_rows, tile_positions

pytestmark = pytest.mark.weights


@pytest.mark.parametrize(
    ("rows", "trained", "expected"),
    [
        (3, 4, [0, 1, 2]),
        (4, 4, [0, 1, 2, 3]),
        (6, 4, [0, 1, 2, 3, 0, 1]),
        (11, 4, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]),
        (7, 6, [0, 1, 2, 3, 4, 5, 0]),
        (7, 99, [0, 1, 2, 3, 4, 5, 0]),
        (3, 1, [0, 0, 0]),
    ],
)
def test_positions_repeat_the_trained_ones(rows, trained, expected):
    table = torch.randn(6, 5)
    tiled = tile_positions(table, rows, trained)
    assert torch.equal(tiled, torch.stack([table[row] for row in expected]))


def test_rows_are_kept_averaged_or_fresh():
    table = torch.randn(4, 3)
    composed = compose_rows(table, [[2], [], [0, 1, 1], [3, 0]])
    assert torch.equal(composed[0], table[2])
    assert torch.allclose(composed[2], (table[0] + 2 * table[1]) / 3)
    assert torch.allclose(composed[3], (table[3] + table[0]) / 2)
    assert 0 < composed[1].abs().max() <= 0.04


def test_fresh_rows_are_those_of_an_untrained_table():
    fresh = compose_rows(torch.randn(1, 64), [[]] * 500)
    # A normal distribution of 0.02 cut at two deviations.
    assert fresh.std() == pytest.approx(0.0176, rel=0.02)
    assert torch.equal(fresh, compose_rows(torch.zeros(1, 64), [[]] * 500))


def test_numbers_beside_the_rows():
    bias = torch.randn(4)
    composed = compose_rows(bias, [[2], [], [0, 1]])
    assert torch.allclose(composed, torch.stack([bias[2], bias.new_zeros(()), bias[:2].mean()]))
