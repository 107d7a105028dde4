"""What a measurement stands beside: bytes of the op, rates of GPUs, and how all is counted."""

from typing import Mapping, NamedTuple

from convbert_plugin.analysis.profiling.operations import OPERATIONS, with_backward

FORMULAS = {
    "FLOPs of the forward": "2 m k n for each product [m, k] x [k, n]: the linear layers, and the "
    "two of attention (m = n = T, k = head size, in each head); 2 C K a token for the depthwise "
    "and for the dynamic convolution over C channels with K taps; nothing for the rest",
    "FLOPs of the backward": "twice those of the forward: each product has two inputs",
    "FLOPs of a step": "three times the forwards of both networks over all tokens, of the "
    "replaced-token head over all tokens, and of the masked-LM head over the masked tokens",
    "MFU": "FLOPs of the formulas / seconds / FLOPs a second of one large square product in that "
    "precision, the best of those in the same run (and of the data sheet, where the GPU is known)",
    "bytes of the op, forward": "(2 N + M) x bytes a number: N = B T C numbers of the value read "
    "and of the output written, M = B T H K numbers of the logits read",
    "bytes of the op, forward + backward": "(5 N + 3 M) x bytes a number: besides, value, logits "
    "and the gradient of the output read, and the gradients of value and logits written",
    "share of copying": "seconds to copy half as many bytes from one tensor into another (which "
    "reads and writes as many as the op must) / seconds of the op, both in this run and both from "
    "tensors that are not in a cache",
    "hours of the recipe": "updates x batch x length / tokens a second / 3,600",
}


class OpSize(NamedTuple):
    """The sizes of one dynamic convolution."""

    batch: int
    length: int
    channels: int
    heads: int
    taps: int

    @property
    def values(self) -> int:
        return self.batch * self.length * self.channels

    @property
    def logits(self) -> int:
        return self.batch * self.length * self.heads * self.taps

    def numbers(self, backward: bool) -> int:
        """How many numbers must be read or written."""
        return 5 * self.values + 3 * self.logits if backward else 2 * self.values + self.logits

    def flops(self, backward: bool) -> int:
        forward = OPERATIONS * self.values * self.taps
        return with_backward(forward) if backward else forward


# Dense, of the data sheets: what stands in a GPU's name -> FLOPs a second by precision.
DATA_SHEETS: Mapping[str, Mapping[str, float]] = {
    "H100 PCIe": {"bf16": 756e12, "fp16": 756e12},
    "H100": {"bf16": 989e12, "fp16": 989e12},
    "H200": {"bf16": 989e12, "fp16": 989e12},
    "A100": {"bf16": 312e12, "fp16": 312e12},
}


def data_sheet_rate(device_name: str, dtype: str) -> float:
    """FLOPs a second that the maker of a GPU names, 0 where it is not in the table."""
    found = (rates for name, rates in DATA_SHEETS.items() if name in device_name)
    return next(found, {}).get(dtype, 0.0)
