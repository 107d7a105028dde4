"""The span convolution on a GPU, by its matrix units.

A program writes a run of positions of one head, for which it reads half a kernel more to each side.
Kernels stand in a matrix with a band: a row for each position that is written, a column for each
that is read. Times the values it is the convolution. The gradient of the values is the same with
the kernels of the positions that are read.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit(do_not_specialize=["length", "runs"])
def span_runs(
    output,
    value,
    logits,
    texts,
    length,
    runs,
    VALUE_STRIDE: tl.constexpr,
    LOGITS_STRIDE: tl.constexpr,
    HEADS: tl.constexpr,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    RUN: tl.constexpr,
    READ: tl.constexpr,
    PRECISION: tl.constexpr,
):
    position, first, head, read = _run(length, runs, HEADS, TAPS, RUN, READ)
    written = first + tl.arange(0, RUN) < length
    values = _load(value + head * SIZE, VALUE_STRIDE, position - TAPS // 2, read, SIZE, BLOCK)
    kernel = _softmax(logits + head * TAPS, LOGITS_STRIDE, position, written, TAPS, PADDED)
    tap = tl.arange(0, READ)[None, :] - tl.arange(0, RUN)[:, None]
    seen = _seen(texts, position, written, position - TAPS // 2, read, tap, TAPS)
    total = _times(_at_taps(kernel, tap, seen), values, seen, texts, PRECISION)
    _store(output + head * SIZE, HEADS * SIZE, position, total, written, SIZE, BLOCK)


@triton.jit(do_not_specialize=["length", "runs"])
def span_runs_backward(
    grad_value,
    grad_logits,
    grad,
    value,
    logits,
    texts,
    length,
    runs,
    GRAD_STRIDE: tl.constexpr,
    VALUE_STRIDE: tl.constexpr,
    LOGITS_STRIDE: tl.constexpr,
    HEADS: tl.constexpr,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    RUN: tl.constexpr,
    READ: tl.constexpr,
    PRECISION: tl.constexpr,
):
    position, _, head, read = _run(length, runs, HEADS, TAPS, RUN, READ)
    position -= TAPS // 2
    written = read & (tl.arange(0, READ) >= TAPS // 2) & (tl.arange(0, READ) < RUN + TAPS // 2)
    grads = _load(grad + head * SIZE, GRAD_STRIDE, position, read, SIZE, BLOCK)
    values = _load(value + head * SIZE, VALUE_STRIDE, position, read, SIZE, BLOCK)
    kernel = _softmax(logits + head * TAPS, LOGITS_STRIDE, position, read, TAPS, PADDED)
    place = tl.arange(0, READ)
    tap = place[None, :] - place[:, None] + TAPS // 2
    seen = _seen(texts, position, read, position, read, tap, TAPS)
    readers = tl.trans(_at_taps(kernel, tap, seen))
    total = _times(readers, grads, tl.trans(seen), texts, PRECISION)
    _store(grad_value + head * SIZE, HEADS * SIZE, position, total, written, SIZE, BLOCK)

    products = tl.dot(grads, tl.trans(values.to(grads.dtype)), input_precision=PRECISION)
    products = tl.where(seen, products, 0.0)
    # Positions at the edges read outside; they are not written either.
    source = place[:, None] + tl.arange(0, PADDED)[None, :] - TAPS // 2
    grad_kernel = tl.gather(products, source & (READ - 1), axis=1)
    # The gradient of a softmax: each weight times how far its gradient is above the mean.
    mean = tl.sum(kernel * grad_kernel, axis=1)
    through = kernel * (grad_kernel - mean[:, None])
    _store(grad_logits + head * TAPS, HEADS * TAPS, position, through, written, TAPS, PADDED)


@triton.jit
def _run(
    length,
    runs,
    HEADS: tl.constexpr,
    TAPS: tl.constexpr,
    RUN: tl.constexpr,
    READ: tl.constexpr,
):
    """First position in the batch and in its row, and head; which positions there are to read."""
    run = tl.program_id(0) // HEADS
    row = run // runs
    first = (run - row * runs) * RUN
    read = first - TAPS // 2 + tl.arange(0, READ)
    read = (read >= 0) & (read < tl.minimum(length, first + RUN + TAPS // 2))
    return row.to(tl.int64) * length + first, first, tl.program_id(0) % HEADS, read


@triton.jit
def _load(states, STRIDE: tl.constexpr, first, kept, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    columns = tl.arange(0, BLOCK)[None, :]
    place = tl.arange(0, kept.shape[0])[:, None]
    pointers = states + first * STRIDE + (place * STRIDE + columns)
    return tl.load(pointers, mask=kept[:, None] & (columns < SIZE), other=0.0)


@triton.jit
def _store(
    output, STRIDE: tl.constexpr, first, states, kept, SIZE: tl.constexpr, BLOCK: tl.constexpr
):
    columns = tl.arange(0, BLOCK)[None, :]
    place = tl.arange(0, kept.shape[0])[:, None]
    pointers = output + first * STRIDE + (place * STRIDE + columns)
    mask = kept[:, None] & (columns < SIZE)
    tl.store(pointers, states.to(output.dtype.element_ty), mask=mask)


@triton.jit
def _softmax(logits, STRIDE: tl.constexpr, first, kept, TAPS: tl.constexpr, PADDED: tl.constexpr):
    """The kernels of positions: a row for each, 0 beyond TAPS."""
    loaded = _load(logits, STRIDE, first, kept, TAPS, PADDED).to(tl.float32)
    # exp2 is one instruction, exp is five.
    loaded = tl.where(tl.arange(0, PADDED)[None, :] < TAPS, loaded * LOG2_E, float("-inf"))
    exponentials = tl.exp2(loaded - tl.max(loaded, axis=1)[:, None])
    inverse = 1.0 / tl.sum(exponentials, axis=1)
    return exponentials * inverse[:, None]


@triton.jit
def _seen(texts, first, written, first_read, read, tap, TAPS: tl.constexpr):
    """Which position (row) reads which (column): of its text, as far as its kernel reaches."""
    seen = (tap >= 0) & (tap < TAPS)
    if texts is not None:
        own = tl.load(texts + first + tl.arange(0, written.shape[0]), mask=written, other=-1)
        places = tl.arange(0, read.shape[0])
        others = tl.load(texts + first_read + places, mask=read, other=-1)
        seen = seen & (own[:, None] == others[None, :])
    return seen


@triton.jit
def _at_taps(kernel, tap, seen):
    """Of a row of kernels, the weights of these taps; 0 where nothing is seen."""
    return tl.where(seen, tl.gather(kernel, tl.where(seen, tap, 0), axis=1), 0.0)


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
