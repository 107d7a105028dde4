"""The released head of question answering from the text of its reference, an example at a time.

Shapes: hidden [T, C], answerable [T] bool; ``weights``: the parameters of the head by their names.
"""

import math

import torch


def gelu(values):
    return values * (1 + torch.erf(values / math.sqrt(2))) / 2


def masked(logits, answerable):
    return logits - 1000 * answerable.logical_not().to(logits)


def linear(weights, name, values):
    return values @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def log_softmax(logits):
    logits = logits - logits.max()
    return logits - logits.exp().sum().log()


def starts_of(weights, hidden, answerable):
    """A linear layer on each token [T]."""
    return masked(linear(weights, "start", hidden)[:, 0], answerable)


def ends_of(weights, hidden, answerable, start):
    """[start vector ; token vector] -> 512 with GELU -> 1, of each token [T]."""
    both = torch.cat([hidden[start].expand_as(hidden), hidden], dim=1)
    inner = gelu(linear(weights, "end_dense", both))
    return masked(linear(weights, "end_output", inner)[:, 0], answerable)


def impossible_of(weights, hidden, starts):
    """[[CLS] ; mean of the tokens by the probability of their start] -> 512 with GELU -> 1."""
    mean = sum(
        chance * token for chance, token in zip(log_softmax(starts).exp(), hidden, strict=True)
    )
    inner = gelu(linear(weights, "impossible_dense", torch.cat([hidden[0], mean])))
    return linear(weights, "impossible_output", inner)[0]
