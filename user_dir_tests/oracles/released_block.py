"""One layer as released, in numpy and float64, from weights in TensorFlow's names and layouts.

Written from the released modeling.py:892-1222 alone. Where pads are not to be seen, they are
zeroed at the two places where the convolutions read: the input of the span key, and the
convolution's value after its projection.
"""

import numpy as np
from scipy.special import erf

MASK_ADDER = -10000.0
LAYER_NORM_EPS = 1e-12


def heads_after_ratio(hidden: int, heads: float, ratio: int):
    """Number and size of the heads; where the ratio leaves none, one remains.

    A generator's heads are a fraction of its discriminator's, and no whole number for Python.
    """
    size = int(hidden / heads)
    if int(heads / ratio) < 1:
        ratio = heads
    return int(heads / ratio), size


def weight_shapes(hidden, heads, ratio, kernel_size, ffn_hidden, groups, convolution=True):
    """Names and shapes of a layer's variables."""
    count, size = heads_after_ratio(hidden, heads, ratio)
    width = count * size
    shapes = {}
    for name in ("query", "key", "value"):
        shapes |= dense_shapes(f"attention/self/{name}", hidden, width)
    if convolution:
        shapes |= {
            "attention/self/conv_attn_key/depthwise_kernel": (kernel_size, hidden, 1),
            "attention/self/conv_attn_key/pointwise_kernel": (1, hidden, width),
            "attention/self/conv_attn_key/bias": (width,),
            **dense_shapes("attention/self/conv_attn_kernel", width, count * kernel_size),
            **dense_shapes("attention/self/conv_attn_point", hidden, width),
        }
    shapes |= dense_shapes("attention/output/dense", (2 if convolution else 1) * width, hidden)
    shapes |= _feed_forward("intermediate", hidden, ffn_hidden, groups)
    shapes |= _feed_forward("output", ffn_hidden, hidden, groups)
    for scope in ("attention/output", "output"):
        shapes |= layer_norm_shapes(scope, hidden)
    return shapes


def dense_shapes(scope, inputs, outputs):
    return {f"{scope}/kernel": (inputs, outputs), f"{scope}/bias": (outputs,)}


def layer_norm_shapes(scope, width):
    return {f"{scope}/LayerNorm/{name}": (width,) for name in ("gamma", "beta")}


def _feed_forward(scope, inputs, outputs, groups):
    if groups == 1:
        return dense_shapes(f"{scope}/dense", inputs, outputs)
    return {
        f"{scope}/g_dense/kernel": (groups, inputs // groups, outputs // groups),
        f"{scope}/g_dense/bias": (outputs,),
    }


def random_weights(shapes, seed):
    """Every number of every variable random, so that none can be taken for another."""
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(scale=0.3, size=shape) for name, shape in shapes.items()}
    return {
        name: 1 + values if name.endswith("gamma") else values for name, values in weights.items()
    }


def released_block(hidden, weights, heads, ratio, pads=None, pads_visible=True):
    """One layer; shapes: hidden [B, T, C], pads [B, T] (true where a pad stands) -> [B, T, C]."""
    if pads is None:
        pads = np.zeros(hidden.shape[:2], dtype=bool)
    context = np.stack(
        [
            _mixed_attention(states, weights, heads, ratio, row_pads, pads_visible)
            for states, row_pads in zip(hidden, pads, strict=True)
        ]
    )
    attended = context @ weights["attention/output/dense/kernel"]
    attended += weights["attention/output/dense/bias"]
    attended = layer_norm(attended + hidden, weights, "attention/output/LayerNorm")
    inner = gelu(_feed_forward_layer(attended, weights, "intermediate"))
    outer = _feed_forward_layer(inner, weights, "output")
    return layer_norm(outer + attended, weights, "output/LayerNorm")


def _mixed_attention(hidden, weights, heads, ratio, pads, pads_visible):
    """Shapes: hidden [T, C], pads [T] -> the heads side by side, attention's first."""
    count, size = heads_after_ratio(hidden.shape[1], heads, ratio)
    query, key, value = (
        apply(hidden, weights, f"attention/self/{name}") for name in ("query", "key", "value")
    )
    parts = []
    for head in range(count):
        of_head = slice(head * size, (head + 1) * size)
        scores = query[:, of_head] @ key[:, of_head].T / np.sqrt(size) + MASK_ADDER * pads
        parts.append(_softmax(scores) @ value[:, of_head])
    if "attention/self/conv_attn_key/bias" in weights:
        parts.append(_span_convolution(hidden, query, weights, count, size, pads, pads_visible))
    return np.concatenate(parts, axis=1)


def _span_convolution(hidden, query, weights, count, size, pads, pads_visible):
    real = np.ones((len(pads), 1)) if pads_visible else 1.0 - pads[:, None]
    depthwise = weights["attention/self/conv_attn_key/depthwise_kernel"][:, :, 0]
    pointwise = weights["attention/self/conv_attn_key/pointwise_kernel"][0]
    read = _shifted(hidden * real, depthwise)
    spans = sum(taps * values for taps, values in zip(depthwise, read, strict=True))
    span_key = spans @ pointwise + weights["attention/self/conv_attn_key/bias"]
    logits = apply(span_key * query, weights, "attention/self/conv_attn_kernel")
    value = apply(hidden, weights, "attention/self/conv_attn_point") * real
    shifted = _shifted(value, depthwise)
    output = np.zeros_like(value)
    for time in range(len(hidden)):
        for head in range(count):
            kernel = _softmax(logits[time].reshape(count, -1)[head])
            for channel in range(head * size, (head + 1) * size):
                output[time, channel] = kernel @ [slices[time, channel] for slices in shifted]
    return output


def _shifted(values, taps):
    """For each tap the values that it reads, zeros where the sequence ends."""
    reach = (len(taps) - 1) // 2
    padded = np.pad(values, ((reach, reach), (0, 0)))
    return [padded[tap : tap + len(values)] for tap in range(len(taps))]


def _feed_forward_layer(inputs, weights, scope):
    if f"{scope}/dense/kernel" in weights:
        return apply(inputs, weights, f"{scope}/dense")
    kernels = weights[f"{scope}/g_dense/kernel"]
    blocks = np.split(inputs, len(kernels), axis=-1)
    outputs = [block @ kernel for block, kernel in zip(blocks, kernels, strict=True)]
    return np.concatenate(outputs, axis=-1) + weights[f"{scope}/g_dense/bias"]


def apply(inputs, weights, scope):
    return inputs @ weights[f"{scope}/kernel"] + weights[f"{scope}/bias"]


def layer_norm(inputs, weights, scope):
    centered = inputs - inputs.mean(axis=-1, keepdims=True)
    variance = (centered**2).mean(axis=-1, keepdims=True)
    normalized = centered / np.sqrt(variance + LAYER_NORM_EPS)
    return normalized * weights[f"{scope}/gamma"] + weights[f"{scope}/beta"]


def _softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def gelu(inputs):
    return inputs * (1 + erf(inputs / np.sqrt(2))) / 2
