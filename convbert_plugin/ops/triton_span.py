"""The span convolution on a GPU, by its matrix units.

A program takes a window of places of one head. The kernels of its places stand in a square matrix
with a band, one row a place: times the values it is the convolution, transposed times the gradient
that of the values. Places nearer to an edge of the window than half a kernel are only read, and
written by the program of the next window.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["length", "windows"])
def span_windows(
    output,
    value,
    logits,
    texts,
    length,
    windows,
    heads,
    value_row,
    value_time,
    logits_row,
    logits_time,
    logits_head,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PLACES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row, head, first, inside, written = _window(length, windows, heads, TAPS, PLACES)
    value += row * value_row + first.to(tl.int64) * value_time + head * SIZE
    logits += row * logits_row + first.to(tl.int64) * logits_time + head * logits_head
    output += ((row * length + first) * heads + head) * SIZE
    states = _load(value, value_time, inside, SIZE, BLOCK, PLACES)
    kernel = _softmax(logits, logits_time, written, TAPS, PADDED, PLACES)
    seen = _seen(texts, row * length + first, inside, TAPS, PLACES)
    total = _times(_to_band(kernel, seen, TAPS, PLACES), states, seen, texts, PRECISION)
    _store(output, heads * SIZE, total, written, SIZE, BLOCK, PLACES)


@triton.jit(do_not_specialize=["length", "windows"])
def span_windows_backward(
    grad_value,
    grad_logits,
    grad,
    value,
    logits,
    texts,
    length,
    windows,
    heads,
    grad_row,
    grad_time,
    value_row,
    value_time,
    logits_row,
    logits_time,
    logits_head,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    PLACES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    row, head, first, inside, written = _window(length, windows, heads, TAPS, PLACES)
    grad += row * grad_row + first.to(tl.int64) * grad_time + head * SIZE
    value += row * value_row + first.to(tl.int64) * value_time + head * SIZE
    logits += row * logits_row + first.to(tl.int64) * logits_time + head * logits_head
    grad_value += ((row * length + first) * heads + head) * SIZE
    grad_logits += ((row * length + first) * heads + head) * TAPS
    grads = _load(grad, grad_time, inside, SIZE, BLOCK, PLACES)
    states = _load(value, value_time, inside, SIZE, BLOCK, PLACES)
    kernel = _softmax(logits, logits_time, inside, TAPS, PADDED, PLACES)
    seen = _seen(texts, row * length + first, inside, TAPS, PLACES)
    kernel_read = tl.trans(_to_band(kernel, seen, TAPS, PLACES))
    total = _times(kernel_read, grads, tl.trans(seen), texts, PRECISION)
    _store(grad_value, heads * SIZE, total, written, SIZE, BLOCK, PLACES)

    products = tl.dot(grads, tl.trans(states.to(grads.dtype)), input_precision=PRECISION)
    grad_kernel = _from_band(products, seen, TAPS, PADDED, PLACES)
    # The gradient of a softmax: each weight times how far its gradient is above the mean.
    mean = tl.sum(kernel * grad_kernel, axis=1)
    through = kernel * (grad_kernel - mean[:, None])
    _store(grad_logits, heads * TAPS, through, written, TAPS, PADDED, PLACES)


@triton.jit
def _window(length, windows, heads, TAPS: tl.constexpr, PLACES: tl.constexpr):
    """Row, head and first position of a window; which places lie in the row, which are written."""
    window = tl.program_id(0)
    of_row = window // windows
    first = window % windows * (PLACES - TAPS + 1) - TAPS // 2
    place = tl.arange(0, PLACES)
    inside = (first + place >= 0) & (first + place < length)
    written = inside & (place >= TAPS // 2) & (place < PLACES - TAPS // 2)
    return (of_row // heads).to(tl.int64), of_row % heads, first, inside, written


@triton.jit
def _load(states, stride, inside, SIZE: tl.constexpr, BLOCK: tl.constexpr, PLACES: tl.constexpr):
    columns = tl.arange(0, BLOCK)[None, :]
    pointers = states + tl.arange(0, PLACES)[:, None] * stride + columns
    return tl.load(pointers, mask=inside[:, None] & (columns < SIZE), other=0.0)


@triton.jit
def _store(
    output, stride, states, kept, SIZE: tl.constexpr, BLOCK: tl.constexpr, PLACES: tl.constexpr
):
    columns = tl.arange(0, BLOCK)[None, :]
    pointers = output + tl.arange(0, PLACES)[:, None] * stride + columns
    mask = kept[:, None] & (columns < SIZE)
    tl.store(pointers, states.to(output.dtype.element_ty), mask=mask)


@triton.jit
def _softmax(
    logits, stride, inside, TAPS: tl.constexpr, PADDED: tl.constexpr, PLACES: tl.constexpr
):
    """The kernels [PLACES, PADDED], 0 beyond TAPS."""
    loaded = _load(logits, stride, inside, TAPS, PADDED, PLACES).to(tl.float32)
    # exp2 is one instruction, exp is five.
    loaded = tl.where(tl.arange(0, PADDED)[None, :] < TAPS, loaded * LOG2_E, float("-inf"))
    exponentials = tl.exp2(loaded - tl.max(loaded, axis=1)[:, None])
    inverse = 1.0 / tl.sum(exponentials, axis=1)
    return exponentials * inverse[:, None]


@triton.jit
def _seen(texts, first, inside, TAPS: tl.constexpr, PLACES: tl.constexpr):
    """Which place (row) reads which (column): those of its text, as far as its kernel reaches."""
    place = tl.arange(0, PLACES)
    tap = place[None, :] - place[:, None] + TAPS // 2
    seen = (tap >= 0) & (tap < TAPS)
    if texts is not None:
        text = tl.load(texts + first + place, mask=inside, other=-1)
        seen = seen & (text[:, None] == text[None, :])
    return seen


@triton.jit
def _to_band(kernel, seen, TAPS: tl.constexpr, PLACES: tl.constexpr):
    """Kernels [PLACES, PADDED] as a matrix [PLACES, PLACES]."""
    place = tl.arange(0, PLACES)
    tap = place[None, :] - place[:, None] + TAPS // 2
    return tl.where(seen, tl.gather(kernel, tl.where(seen, tap, 0), axis=1), 0.0)


@triton.jit
def _from_band(matrix, seen, TAPS: tl.constexpr, PADDED: tl.constexpr, PLACES: tl.constexpr):
    """What a matrix [PLACES, PLACES] has where it is seen, as [PLACES, PADDED].

    What places at the edges read stands outside the window; they are not written either.
    """
    read = tl.arange(0, PLACES)[:, None] + tl.arange(0, PADDED)[None, :] - TAPS // 2
    return tl.gather(tl.where(seen, matrix, 0.0), read & (PLACES - 1), axis=1)


@triton.jit
def _times(kernel, states, seen, texts, PRECISION: tl.constexpr):
    """Kernels times states, rounded to the precision of those and added up in fp32."""
    if texts is not None:
        # Zero times what is not finite is NaN: it may reach what sees it, and no other text.
        finite = tl.abs(states.to(tl.float32)) < float("inf")
        strays = tl.dot(seen.to(tl.float16), (1 - finite.to(tl.int32)).to(tl.float16))
        states = tl.where(finite, states, 0.0).to(states.dtype)
    product = tl.dot(kernel.to(states.dtype), states, input_precision=PRECISION)
    if texts is not None:
        product = tl.where(strays > 0, float("nan"), product)
    return product
