"""Segment ids from the separators of a sequence."""

from torch import Tensor


def segments_from_separators(tokens: Tensor, separator: int, pad: int) -> Tensor:
    """1 for every token after the first separator, 0 up to it and for pads.

    Shapes: tokens [B, T] -> [B, T].
    """
    is_separator = tokens.eq(separator).long()
    separators_before = is_separator.cumsum(dim=1) - is_separator
    return (separators_before.gt(0) & tokens.ne(pad)).long()
