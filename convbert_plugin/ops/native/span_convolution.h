// Convolution with the softmax of every position's own logits.
#pragma once

#include <memory>

#include "positions.h"

namespace {

// Kernels of contiguous logits [pairs, taps], a pair being a position and a head.
template <int TAPS, typename S, typename T>
inline void softmax(S* kernels, const T* logits, Index pairs, Index any_taps) {
    const Index taps = TAPS ? TAPS : any_taps;
    Index pair = 0;
    if constexpr (TAPS != 0 && std::is_same_v<S, float>) {
        // A pair a lane: its taps are as far apart in memory as a register is wide.
        constexpr int N = LANES<S>;
        for (; pair < pairs; pair += N) {
            const int used = int(std::min<Index>(N, pairs - pair));
            alignas(REGISTER) S turned[TAPS][N] = {};
            for (int lane = 0; lane < used; ++lane)
                for (int tap = 0; tap < TAPS; ++tap)
                    turned[tap][lane] = load<1>(logits + (pair + lane) * TAPS + tap);
            Vector<S, N> numbers[TAPS], sum = {};
            for (int tap = 0; tap < TAPS; ++tap) numbers[tap] = load<N>(turned[tap]);
            Vector<S, N> highest = numbers[0];
            for (int tap = 1; tap < TAPS; ++tap)
                highest = highest < numbers[tap] ? numbers[tap] : highest;
            for (int tap = 0; tap < TAPS; ++tap) {
                numbers[tap] = exponential<N>(numbers[tap] - highest);
                sum += numbers[tap];
            }
            const Vector<S, N> scale = 1 / sum;
            for (int tap = 0; tap < TAPS; ++tap) store<N>(turned[tap], numbers[tap] * scale);
            for (int lane = 0; lane < used; ++lane)
                for (int tap = 0; tap < TAPS; ++tap)
                    kernels[(pair + lane) * TAPS + tap] = turned[tap][lane];
        }
    }
    for (; pair < pairs; ++pair) {
        S* kernel = kernels + pair * taps;
        const T* row = logits + pair * taps;
        S highest = load<1>(row), sum = 0;
        for (Index tap = 1; tap < taps; ++tap) {
            const S number = load<1>(row + tap);
            highest = highest < number ? number : highest;
        }
        for (Index tap = 0; tap < taps; ++tap)
            sum += kernel[tap] = power(load<1>(row + tap) - highest);
        const S scale = 1 / sum;
        for (Index tap = 0; tap < taps; ++tap) kernel[tap] *= scale;
    }
}

template <int TAPS, typename T>
void span_forward(const Shape& shape, States<const T> value, const T* logits, T* output) {
    using S = Sum<T>;
    const Index taps = TAPS ? TAPS : shape.taps, half = taps / 2;
    const Index pairs = shape.heads, size = shape.channels / shape.heads;
    over_positions(shape, [&](Index begin, Index end) {
        const std::unique_ptr<S[]> kernels(new S[BLOCK * pairs * taps]);
        for_each_piece(shape, begin, end, [&](const Piece& piece) {
            const Index zero = piece.row * shape.length;
            softmax<TAPS>(kernels.get(), logits + (zero + piece.begin) * pairs * taps,
                          (piece.end - piece.begin) * pairs, taps);
            const T* states = value.data + piece.row * value.of_batch;
            for (Index time = piece.begin; time < piece.end; ++time) {
                const Index low = std::max<Index>(0, half - (time - piece.first));
                const Index high = std::min(taps, piece.last - time + half);
                T* result = output + (zero + time) * shape.channels;
                const S* kernel = kernels.get() + (time - piece.begin) * pairs * taps;
                for (Index head = 0; head < pairs; ++head, kernel += taps, result += size) {
                    const T* source = states + (time - half) * value.of_time + head * size;
                    const auto convolve = [&](auto from, auto to) {
                        over_channels<S, 4>(size, [&](Index channel, auto lanes, auto wide) {
                            Vector<S, lanes> sums[wide] = {};
                            for (Index tap = from; tap < to; ++tap)
                                for (int i = 0; i < wide; ++i)
                                    sums[i] += kernel[tap] *
                                               load<lanes>(source + tap * value.of_time + channel +
                                                           i * lanes);
                            for (int i = 0; i < wide; ++i)
                                store<lanes>(result + channel + i * lanes, sums[i]);
                        });
                    };
                    if (TAPS && high - low == taps)
                        convolve(Constant<0>(), Constant<TAPS>());
                    else
                        convolve(low, high);
                }
            }
        });
    });
}

template <int TAPS, typename T>
void span_backward(const Shape& shape, States<const T> grad, States<const T> value,
                   const T* logits, T* grad_value, T* grad_logits) {
    using S = Sum<T>;
    const Index taps = TAPS ? TAPS : shape.taps, half = taps / 2;
    const Index heads = shape.heads, size = shape.channels / heads;
    over_positions(shape, [&](Index begin, Index end) {
        const std::unique_ptr<S[]> kernels(new S[(BLOCK + 2 * half) * heads * taps]);
        const std::unique_ptr<S[]> products(new S[taps]);
        for_each_piece(shape, begin, end, [&](const Piece& piece) {
            const Index zero = piece.row * shape.length;
            const Index before = std::max(piece.first, piece.begin - half);
            const Index after = std::min(piece.last, piece.end + half);
            softmax<TAPS>(kernels.get(), logits + (zero + before) * heads * taps,
                          (after - before) * heads, taps);
            for (Index time = piece.begin; time < piece.end; ++time) {
                const Index low = std::max<Index>(0, half - (time - piece.first));
                const Index high = std::min(taps, piece.last - time + half);
                for (Index head = 0; head < heads; ++head) {
                    // Tap j of position t read t + j - half: what was read here, tap j of the
                    // position t - (j - half) read.
                    const Index offset = head * size;
                    const S* read_by = kernels.get() + ((time - before) * heads + head) * taps;
                    const T* grads =
                        grad.data + piece.row * grad.of_batch + time * grad.of_time + offset;
                    const T* sources = value.data + piece.row * value.of_batch +
                                       (time - half) * value.of_time + offset;
                    T* result = grad_value + (zero + time) * shape.channels + offset;
                    const auto differentiate = [&](auto from, auto to) {
                        over_channels<S, 4>(size, [&](Index channel, auto lanes, auto wide) {
                            Vector<S, lanes> sums[wide] = {};
                            for (Index tap = taps - to; tap < taps - from; ++tap)
                                for (int i = 0; i < wide; ++i)
                                    sums[i] += read_by[(half - tap) * heads * taps + tap] *
                                               load<lanes>(grads + (half - tap) * grad.of_time +
                                                           channel + i * lanes);
                            for (int i = 0; i < wide; ++i)
                                store<lanes>(result + channel + i * lanes, sums[i]);
                        });
                        for (Index tap = 0; tap < taps; ++tap) products[tap] = 0;
                        const Index whole = size / LANES<S> * LANES<S>;
                        if constexpr (TAPS != 0) {
                            Vector<S, LANES<S>> sums[TAPS] = {};
                            for (Index channel = 0; channel < whole; channel += LANES<S>) {
                                const auto here = load<LANES<S>>(grads + channel);
                                for (Index tap = from; tap < to; ++tap)
                                    sums[tap] += here * load<LANES<S>>(
                                                            sources + tap * value.of_time + channel);
                            }
                            totals<LANES<S>, TAPS, S>(products.get(), sums);
                        } else {
                            for (Index tap = from; tap < to; ++tap) {
                                Vector<S, LANES<S>> sum = {};
                                for (Index channel = 0; channel < whole; channel += LANES<S>)
                                    sum += load<LANES<S>>(grads + channel) *
                                           load<LANES<S>>(sources + tap * value.of_time + channel);
                                products[tap] = total<LANES<S>, S>(sum);
                            }
                        }
                        for (Index channel = whole; channel < size; ++channel)
                            for (Index tap = from; tap < to; ++tap)
                                products[tap] += load<1>(grads + channel) *
                                                 load<1>(sources + tap * value.of_time + channel);
                    };
                    if (TAPS && high - low == taps)
                        differentiate(Constant<0>(), Constant<TAPS>());
                    else
                        differentiate(low, high);
                    S mean = 0;
                    for (Index tap = 0; tap < taps; ++tap) mean += read_by[tap] * products[tap];
                    T* of_logits = grad_logits + ((zero + time) * heads + head) * taps;
                    for (Index tap = 0; tap < taps; ++tap)
                        store<1>(of_logits + tap, read_by[tap] * (products[tap] - mean));
                }
            }
        });
    });
}

}  // namespace
