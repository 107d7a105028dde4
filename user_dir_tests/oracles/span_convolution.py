"""The span convolution as loops over batch, time and taps, forward and backward, in float64."""

import numpy as np


def convolve(value, kernel):
    """Shapes: value [B, T, C], kernel [B, T, H, K] -> [B, T, C]."""
    output = np.zeros_like(value)
    for here, source, channels, tap in _products(value, kernel):
        output[here][channels] += kernel[here][tap] * value[source][channels]
    return output


def convolve_backward(value, kernel, grad_output):
    """Gradients of value and kernel, for that of the output."""
    grad_value, grad_kernel = np.zeros_like(value), np.zeros_like(kernel)
    for here, source, channels, tap in _products(value, kernel):
        grad_value[source][channels] += kernel[here][tap] * grad_output[here][channels]
        grad_kernel[here][tap] += value[source][channels] @ grad_output[here][channels]
    return grad_value, grad_kernel


def _products(value, kernel):
    """Where each product of the convolution finds its factors."""
    batch, length, channels = value.shape
    heads, taps = kernel.shape[2:]
    size = channels // heads
    for row in range(batch):
        for time in range(length):
            for head in range(heads):
                for tap in range(taps):
                    source = time + tap - (taps - 1) // 2
                    if 0 <= source < length:
                        of_head = slice(head * size, (head + 1) * size)
                        yield (row, time), (row, source), of_head, (head, tap)


def kernels(query, weight, bias, heads):
    """Softmaxed kernels; shapes: query [B, T, C], weight [H * K, C], bias [H * K]."""
    batch, length, _ = query.shape
    taps = len(bias) // heads
    result = np.zeros((batch, length, heads, taps))
    for row in range(batch):
        for time in range(length):
            for head in range(heads):
                of_head = slice(head * taps, (head + 1) * taps)
                exponentials = np.exp(weight[of_head] @ query[row, time] + bias[of_head])
                result[row, time, head] = exponentials / exponentials.sum()
    return result


def span_convolution(value, query, weight, bias, heads):
    """Shapes: value and query [B, T, C], weight [H * K, C], bias [H * K] -> [B, T, C]."""
    return convolve(value, kernels(query, weight, bias, heads))


def span_convolution_backward(value, query, weight, bias, heads, grad_output):
    """Gradients of value, query, weight and bias, for that of the output."""
    kernel = kernels(query, weight, bias, heads)
    grad_value, grad_kernel = convolve_backward(value, kernel, grad_output)
    grad_query, grad_weight, grad_bias = (np.zeros_like(each) for each in (query, weight, bias))
    batch, length, _, taps = kernel.shape
    for row in range(batch):
        for time in range(length):
            for head in range(heads):
                of_head = slice(head * taps, (head + 1) * taps)
                weights, grads = kernel[row, time, head], grad_kernel[row, time, head]
                grad_logits = weights * (grads - weights @ grads)
                grad_query[row, time] += grad_logits @ weight[of_head]
                grad_weight[of_head] += np.outer(grad_logits, query[row, time])
                grad_bias[of_head] += grad_logits
    return grad_value, grad_query, grad_weight, grad_bias


def separable_convolution(hidden, depthwise, pointwise, bias):
    """Shapes: hidden [B, T, C], depthwise [K, C], pointwise [C, A], bias [A] -> [B, T, A]."""
    batch, length, channels = hidden.shape
    taps = len(depthwise)
    output = np.zeros((batch, length, len(bias)))
    for row in range(batch):
        for time in range(length):
            span = np.zeros(channels)
            for tap in range(taps):
                source = time + tap - (taps - 1) // 2
                if 0 <= source < length:
                    span += depthwise[tap] * hidden[row, source]
            output[row, time] = span @ pointwise + bias
    return output


def separable_convolution_backward(hidden, depthwise, pointwise, bias, grad_output):
    """Gradients of hidden, depthwise, pointwise and bias, for that of the output."""
    grads = [np.zeros_like(each) for each in (hidden, depthwise, pointwise, bias)]
    grad_hidden, grad_depthwise, grad_pointwise, grad_bias = grads
    batch, length, channels = hidden.shape
    taps = len(depthwise)
    for row in range(batch):
        for time in range(length):
            grad_span = pointwise @ grad_output[row, time]
            span = np.zeros(channels)
            for tap in range(taps):
                source = time + tap - (taps - 1) // 2
                if 0 <= source < length:
                    span += depthwise[tap] * hidden[row, source]
                    grad_hidden[row, source] += depthwise[tap] * grad_span
                    grad_depthwise[tap] += hidden[row, source] * grad_span
            grad_pointwise += np.outer(span, grad_output[row, time])
            grad_bias += grad_output[row, time]
    return grads
