"""Where half precision is not enough."""

import torch


def at_least_fp32(dtype: torch.dtype) -> torch.dtype:
    """fp32 for half precision, any other as it is: for softmax, sampling and losses."""
    # Not torch.promote_types, which torch.export takes for an operation and keeps in its graph.
    return dtype if dtype == torch.float64 else torch.float32


def as_products(states: torch.Tensor) -> torch.Tensor:
    """In the precision that matrix products have under autocast, where that is on."""
    device = states.device.type
    if states.dtype != torch.float32 or not torch.is_autocast_enabled(device):
        return states
    return states.to(torch.get_autocast_dtype(device))
