"""The two heads of pretraining, evaluated in numpy and float64."""

import numpy as np
import pytest
import torch
from scipy.special import erf

from convbert_plugin.modules.heads import MaskedLMHead, ReplacedTokenHead
from user_dir_tests.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.pretraining

HIDDEN, EMBEDDING, VOCABULARY = 7, 5, 23


def with_random_weights(head):
    generator = torch.Generator().manual_seed(1)
    for parameter in head.double().parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return head, {name: values.numpy() for name, values in head.state_dict().items()}


def gelu(inputs):
    return inputs * (1 + erf(inputs / np.sqrt(2))) / 2


def test_the_masked_lm_head():
    head, weights = with_random_weights(MaskedLMHead(HIDDEN, EMBEDDING, VOCABULARY))
    rng = np.random.default_rng(2)
    hidden, table = rng.normal(size=(6, HIDDEN)), rng.normal(size=(VOCABULARY, EMBEDDING))
    inner = gelu(hidden @ weights["dense.weight"].T + weights["dense.bias"])
    inner = inner - inner.mean(axis=-1, keepdims=True)
    inner = inner / np.sqrt((inner**2).mean(axis=-1, keepdims=True) + 1e-12)
    inner = inner * weights["layer_norm.weight"] + weights["layer_norm.bias"]
    expected = inner @ table.T + weights["bias"]
    result = head(torch.tensor(hidden), torch.tensor(table))
    assert relative_error(result, expected) <= TOLERANCES[torch.float64]["operation"]


def test_the_replaced_token_head():
    head, weights = with_random_weights(ReplacedTokenHead(HIDDEN))
    hidden = np.random.default_rng(3).normal(size=(2, 9, HIDDEN))
    inner = gelu(hidden @ weights["dense.weight"].T + weights["dense.bias"])
    expected = inner @ weights["output.weight"][0] + weights["output.bias"]
    result = head(torch.tensor(hidden))
    assert relative_error(result, expected) <= TOLERANCES[torch.float64]["operation"]
