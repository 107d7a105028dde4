"""The places of a corpus where the kernel of one head is sharpest, or most unlike its mean."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from convbert_plugin.analysis.heads.corpus_batches import CorpusBatch, CorpusText
from convbert_plugin.data.vocabulary import Vocabulary
from convbert_plugin.metrics.attention_measures import centre_of_mass, divergence, entropy


class Head(NamedTuple):
    """One of a layer; both count from 0."""

    layer: int
    number: int


class KernelSearch:
    """Keeps the kernels [T, K] of one head for every text."""

    def __init__(self, head: Head):
        self.head = head
        self.found: list[tuple[CorpusText, Tensor]] = []

    def add(self, batch: CorpusBatch, kernels: Tensor) -> None:
        """Those of a batch, of all heads: [L, B, H, T, K]."""
        of_head = kernels[self.head.layer, :, self.head.number].cpu()
        for text, of_text in zip(batch.texts, of_head, strict=True):
            # A copy, lest the whole batch stays.
            self.found.append((text, of_text[: len(text.tokens)].clone()))

    def result(self, vocabulary: Vocabulary, number: int) -> dict[str, Any]:
        """So many places of each kind, in plain values, with the tokens that the kernel spans.

        ``entropy`` and ``divergence`` (from the mean kernel of the corpus) are in nats, ``window``
        the tokens under the taps with their weights; beyond the text stands null.
        """
        kernels = torch.cat([of_text for _, of_text in self.found]).double()
        entropies, divergences = entropy(kernels), divergence(kernels, kernels.mean(dim=0))
        places = [(text, place) for text, of_text in self.found for place in range(len(of_text))]

        def described(index: int) -> dict[str, Any]:
            text, place = places[index]
            words = [vocabulary[token] for token in text.tokens.tolist()]
            weights = kernels[index].tolist()
            first = place - len(weights) // 2
            spanned = (
                words[at] if 0 <= at < len(words) else None
                for at in range(first, first + len(weights))
            )
            return {
                "line": text.line,
                "position": place,
                "token": words[place],
                "entropy": entropies[index].item(),
                "divergence": divergences[index].item(),
                "centre": centre_of_mass(kernels[index]).item(),
                "window": [list(pair) for pair in zip(spanned, weights, strict=True)],
            }

        def first(scores: Tensor) -> list[dict[str, Any]]:
            # Stable: of equal ones the earlier.
            order = scores.sort(stable=True).indices[:number]
            return [described(index) for index in order.tolist()]

        return {
            "layer": self.head.layer,
            "head": self.head.number,
            "sharpest": first(entropies),
            "most_unlike_the_mean": first(-divergences),
        }
