"""Where half precision is not enough."""

import torch


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """fp32 for half precision, any other as it is: for softmax, sampling and losses."""
    return torch.promote_types(dtype, torch.float32)
