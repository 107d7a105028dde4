"""Tensors in every layout that an op may be given, and memory that shows when it is read early."""

import contextlib

import torch

LAYOUTS = (
    "contiguous",
    "time first",
    "slice of a larger tensor",
    "every second",
    "channels first",
)


def leaf(values, layout, dtype=torch.float64):
    """The values as a leaf of that layout in memory."""
    values = torch.as_tensor(values).to(dtype)
    if layout == "time first":
        laid = values.transpose(0, 1).contiguous().transpose(0, 1)
    elif layout == "channels first":
        laid = values.transpose(1, 2).contiguous().transpose(1, 2)
    elif layout == "slice of a larger tensor":
        larger = torch.full([extent + 3 for extent in values.shape], torch.nan, dtype=dtype)
        laid = larger[tuple(slice(1, 1 + extent) for extent in values.shape)]
        laid.copy_(values)
    elif layout == "every second":
        laid = torch.full((*values.shape[:-1], 2 * values.shape[-1]), torch.nan, dtype=dtype)
        laid = laid[..., ::2]
        laid.copy_(values)
    else:
        laid = values.clone()
    return laid.requires_grad_()


@contextlib.contextmanager
def nan_in_new_memory():
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        assert torch.empty(3).isnan().all()
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(False)
