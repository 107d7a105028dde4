"""Examples to a batch."""

from typing import Mapping, Optional, Sequence

import torch
from fairseq.data import data_utils

# What a batch says that a model is to compute of it, where that is not the logits of a head.
PRETRAINING = "pretraining"


def collate(
    examples: Sequence[Mapping], pad: int, output: str, pad_to_length: Optional[int] = None
) -> dict:
    """What all batches hold, of examples with id, tokens [T] and segments [T].

    Shapes: src_tokens and segments [B, T], padded on the right. ``has_pads`` says whether there are
    pads among them, so that no model has to look; ``output`` is what it is to compute.
    """
    tokens, segments = (
        data_utils.collate_tokens(
            [example[name] for example in examples], filler, pad_to_length=pad_to_length
        )
        for name, filler in (("tokens", pad), ("segments", 0))
    )
    return {
        "id": torch.tensor([example["id"] for example in examples]),
        "nsentences": len(examples),
        "ntokens": sum(len(example["tokens"]) for example in examples),
        "net_input": {
            "src_tokens": tokens,
            "segments": segments,
            "has_pads": bool(tokens.eq(pad).any()),
            "output": output,
        },
    }
