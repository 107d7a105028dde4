"""Where half precision is not enough."""

import torch


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """fp32 for half precision, any other as it is: for softmax, sampling and losses."""
    # Not torch.promote_types, which torch.export takes for an operation and keeps in its graph.
    return dtype if dtype == torch.float64 else torch.float32
