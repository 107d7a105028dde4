"""The depthwise convolution on a GPU.

A strip is a run of positions of one row. A program computes several strips for one block of
channels, and a thread holds the same few channels of all positions that a strip reads: each is
loaded once from memory and widened once, whatever the number of taps.
"""

import triton
import triton.language as tl


@triton.jit
def _strips(program, runs, strips, RUN: tl.constexpr, STRIPS: tl.constexpr):
    """Of each strip [STRIPS]: whether there is one, its row, its first position.

    Strips of one row follow each other, so that what two of them read is in the cache.
    """
    strip = program * STRIPS + tl.arange(0, STRIPS)
    return strip < strips, (strip // runs).to(tl.int64), strip % runs * RUN


@triton.jit
def _window(
    states, stride, first, length, used, columns, kept, RUN: tl.constexpr, TAPS: tl.constexpr
):
    """What a strip reads [STRIPS, BLOCK], a tensor a position, TAPS // 2 before its first on.

    ``states`` points at the first position of each strip.
    """
    window = ()
    for place in tl.static_range(RUN + TAPS - 1):
        time = first + (place - TAPS // 2)
        inside = used & (time >= 0) & (time < length)
        pointers = states + (place - TAPS // 2) * stride
        loaded = tl.load(
            pointers[:, None] + columns[None, :], mask=inside[:, None] & kept[None, :], other=0.0
        )
        window += (loaded.to(tl.float32),)
    return window


@triton.jit
def _texts_of(texts, row, first, length, used, RUN: tl.constexpr, TAPS: tl.constexpr):
    """The number of the text [STRIPS] at each position of :func:`_window`; without texts, 0."""
    numbers = ()
    for place in tl.static_range(RUN + TAPS - 1):
        time = first + (place - TAPS // 2)
        if texts is not None:
            inside = used & (time >= 0) & (time < length)
            number = tl.load(texts + row * length + time, mask=inside, other=-1)
        else:
            number = tl.zeros_like(first)
        numbers += (number,)
    return numbers


@triton.jit
def _product(kernel, states, one, other, texts):
    """Kernel times states; 0, whatever they are, where they stand in different texts."""
    product = kernel * states
    if texts is not None:
        product = tl.where((one == other)[:, None], product, 0.0)
    return product


@triton.jit
def _store_strip(
    output, states, row, first, length, used, columns, kept, CHANNELS, RUN: tl.constexpr
):
    """Write the positions of each strip [STRIPS, BLOCK] into a contiguous tensor [B, T, C]."""
    pointers = output + (row * length + first) * CHANNELS
    for place in tl.static_range(RUN):
        inside = used & (first + place < length)
        tl.store(
            (pointers + place * CHANNELS)[:, None] + columns[None, :],
            states[place].to(output.dtype.element_ty),
            mask=inside[:, None] & kept[None, :],
        )


@triton.jit(do_not_specialize=["length", "runs", "strips"])
def depthwise_strips(
    output,
    hidden,
    weight,
    texts,
    length,
    runs,
    strips,
    hidden_row,
    hidden_time,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIPS: tl.constexpr,
    RUN: tl.constexpr,
):
    blocks = tl.cdiv(CHANNELS, BLOCK)
    used, row, first = _strips(tl.program_id(0) // blocks, runs, strips, RUN, STRIPS)
    columns = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    kept = columns < CHANNELS
    hidden += row * hidden_row + first.to(tl.int64) * hidden_time
    window = _window(hidden, hidden_time, first, length, used, columns, kept, RUN, TAPS)
    numbers = _texts_of(texts, row, first, length, used, RUN, TAPS)
    kernel = _kernel(weight, columns, kept, TAPS, PADDED, BLOCK)
    outputs = ()
    for place in tl.static_range(RUN):
        total = tl.zeros([STRIPS, BLOCK], tl.float32)
        for tap in tl.static_range(TAPS):
            total += _product(
                kernel[tap][None, :],
                window[place + tap],
                numbers[place + TAPS // 2],
                numbers[place + tap],
                texts,
            )
        outputs += (total,)
    _store_strip(output, outputs, row, first, length, used, columns, kept, CHANNELS, RUN)


@triton.jit(do_not_specialize=["length", "runs", "strips", "steps"])
def depthwise_strips_backward(
    grad_hidden,
    partial,
    grad,
    hidden,
    weight,
    texts,
    length,
    runs,
    strips,
    steps,
    grad_row,
    grad_time,
    hidden_row,
    hidden_time,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    STRIPS: tl.constexpr,
    RUN: tl.constexpr,
):
    blocks = tl.cdiv(CHANNELS, BLOCK)
    program = tl.program_id(0) // blocks
    columns = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    kept = columns < CHANNELS
    kernel = _kernel(weight, columns, kept, TAPS, PADDED, BLOCK)
    sums = ()
    for _ in tl.static_range(TAPS):
        sums += (tl.zeros([STRIPS, BLOCK], tl.float32),)
    step = 0
    while step < steps:
        used, row, first = _strips(program * steps + step, runs, strips, RUN, STRIPS)
        sources = grad + row * grad_row + first.to(tl.int64) * grad_time
        grads = _window(sources, grad_time, first, length, used, columns, kept, RUN, TAPS)
        sources = hidden + row * hidden_row + first.to(tl.int64) * hidden_time
        states = _window(sources, hidden_time, first, length, used, columns, kept, RUN, TAPS)
        numbers = _texts_of(texts, row, first, length, used, RUN, TAPS)
        outputs = ()
        for place in tl.static_range(RUN):
            total = tl.zeros([STRIPS, BLOCK], tl.float32)
            for tap in tl.static_range(TAPS):
                total += _product(
                    kernel[tap][None, :],
                    grads[place + TAPS - 1 - tap],
                    numbers[place + TAPS // 2],
                    numbers[place + TAPS - 1 - tap],
                    texts,
                )
            outputs += (total,)
        _store_strip(grad_hidden, outputs, row, first, length, used, columns, kept, CHANNELS, RUN)
        added = ()
        for tap in tl.static_range(TAPS):
            total = sums[tap]
            for place in tl.static_range(RUN):
                total += _product(
                    grads[place + TAPS // 2],
                    states[place + tap],
                    numbers[place + TAPS // 2],
                    numbers[place + tap],
                    texts,
                )
            added += (total,)
        sums = added
        step += 1
    partial += program.to(tl.int64) * (TAPS * CHANNELS)
    for tap in tl.static_range(TAPS):
        tl.store(partial + tap * CHANNELS + columns, tl.sum(sums[tap], axis=0), mask=kept)


@triton.jit
def _kernel(weight, columns, kept, TAPS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    """Weights [CHANNELS, TAPS] of a block of channels: a tensor [BLOCK] a tap."""
    taps = tl.arange(0, PADDED)[None, :]
    pointers = weight + columns[:, None] * TAPS + taps
    loaded = tl.load(pointers, mask=kept[:, None] & (taps < TAPS), other=0.0).to(tl.float32)
    return _apart(loaded, PADDED, BLOCK)


@triton.jit
def _apart(columns, NUMBER: tl.constexpr, BLOCK: tl.constexpr):
    """The columns of a tensor [BLOCK, NUMBER]."""
    parts = (columns,)
    for level in tl.static_range(8):
        if NUMBER >> level > 1:
            evens = ()
            odds = ()
            for part in tl.static_range(1 << level):
                rest = parts[part].reshape([BLOCK, NUMBER >> level + 1, 2])
                even, odd = rest.split()
                evens += (even,)
                odds += (odd,)
            parts = evens + odds
    columns_apart = ()
    for part in tl.static_range(NUMBER):
        columns_apart += (parts[part].reshape([BLOCK]),)
    return columns_apart


@triton.jit(do_not_specialize=["parts"])
def sum_partial(
    output,
    partial,
    parts,
    CHANNELS: tl.constexpr,
    TAPS: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Add up partial sums [parts, TAPS, CHANNELS] into [CHANNELS, TAPS]."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    kept = column < CHANNELS * TAPS
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    first = 0
    while first < parts:
        part = first + tl.arange(0, ROWS)
        pointers = partial + part.to(tl.int64)[:, None] * (CHANNELS * TAPS) + column[None, :]
        total += tl.load(pointers, mask=(part < parts)[:, None] & kept[None, :], other=0.0)
        first += ROWS
    place = column % CHANNELS * TAPS + column // CHANNELS
    tl.store(output + place, tl.sum(total, axis=0).to(output.dtype.element_ty), mask=kept)
