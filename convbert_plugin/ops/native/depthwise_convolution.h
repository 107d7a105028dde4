// Convolution of each channel with its own weights [taps, channels].
#pragma once

#include <memory>

#include "positions.h"

namespace {

// Positions that share what they load, and channels of which several positions stay in a cache.
constexpr int ROWS = 4;
constexpr Index TILE = 256;

template <typename F> inline void for_each_tile(Index channels, F&& call) {
    for (Index first = 0; first < channels; first += TILE)
        call(first, std::min(TILE, channels - first));
}

// Calls inner(time) for groups of ROWS positions that see whole kernels, and edge(time, low, high)
// with the taps that stay inside of the text for the others.
template <int TAPS, typename F, typename G>
inline void for_each_group(const Piece& piece, Index taps, F&& inner, G&& edge) {
    const Index half = taps / 2;
    for (Index time = piece.begin; time < piece.end;) {
        const Index low = std::max<Index>(0, half - (time - piece.first));
        const Index high = std::min(taps, piece.last - time + half);
        if (TAPS && low == 0 && time + ROWS <= std::min(piece.end, piece.last - half)) {
            inner(time);
            time += ROWS;
        } else {
            edge(time, low, high);
            ++time;
        }
    }
}

template <int TAPS, typename T>
void depthwise_forward(const Shape& shape, States<const T> hidden, const Sum<T>* weights,
                       T* output) {
    using S = Sum<T>;
    const Index taps = TAPS ? TAPS : shape.taps, half = taps / 2, channels = shape.channels;
    const auto compute = [&](const Piece& piece, Index first, Index count) {
        const T* states = hidden.data + piece.row * hidden.of_batch + first;
        T* results = output + piece.row * shape.length * channels + first;
        const S* weight = weights + first;
        const auto inner = [&](Index time) {
            const T* from = states + (time - half) * hidden.of_time;
            T* to = results + time * channels;
            over_channels<S, 1>(count, [&](Index channel, auto lanes, auto) {
                Vector<S, lanes> sums[ROWS] = {};
                for (int source = 0; source < TAPS + ROWS - 1; ++source) {
                    const auto state = load<lanes>(from + source * hidden.of_time + channel);
                    for (int row = 0; row < ROWS; ++row)
                        if (row <= source && source < row + TAPS)
                            sums[row] += state * load<lanes>(weight + (source - row) * channels +
                                                             channel);
                }
                for (int row = 0; row < ROWS; ++row)
                    store<lanes>(to + row * channels + channel, sums[row]);
            });
        };
        const auto edge = [&](Index time, Index low, Index high) {
            const T* from = states + (time - half) * hidden.of_time;
            over_channels<S, 1>(count, [&](Index channel, auto lanes, auto) {
                Vector<S, lanes> sum = {};
                for (Index tap = low; tap < high; ++tap)
                    sum += load<lanes>(weight + tap * channels + channel) *
                           load<lanes>(from + tap * hidden.of_time + channel);
                store<lanes>(results + time * channels + channel, sum);
            });
        };
        for_each_group<TAPS>(piece, taps, inner, edge);
    };
    over_positions(shape, [&](Index begin, Index end) {
        for_each_piece(shape, begin, end, [&](const Piece& piece) {
            for_each_tile(channels, [&](Index first, Index count) { compute(piece, first, count); });
        });
    });
}

// Partial sums of the weights' gradient are over as many positions each, whatever the threads.
inline Index positions_of_a_part(Index positions) {
    return std::max<Index>(128, (positions + 63) / 64);
}

template <int TAPS, typename T>
void depthwise_backward(const Shape& shape, States<const T> grad, States<const T> hidden,
                        const Sum<T>* weights, T* grad_hidden, Sum<T>* grad_weights) {
    using S = Sum<T>;
    const Index taps = TAPS ? TAPS : shape.taps, half = taps / 2, channels = shape.channels;
    const Index each = positions_of_a_part(shape.positions());
    const Index parts = (shape.positions() + each - 1) / each, size = taps * channels;
    const std::unique_ptr<S[]> partial(new S[parts * size]());
    const auto compute = [&](S* sums_of_part, const Piece& piece, Index first, Index count) {
        const T* grads = grad.data + piece.row * grad.of_batch + first;
        const T* states = hidden.data + piece.row * hidden.of_batch + first;
        T* results = grad_hidden + piece.row * shape.length * channels + first;
        S* weight_sums = sums_of_part + first;
        const S* weight = weights + first;
        const auto inner = [&](Index time) {
            // Tap j of position t read t + j - half: what was read here, tap j of the position
            // t - (j - half) read.
            const T* readers = grads + (time - half) * grad.of_time;
            const T* sources = states + (time - half) * hidden.of_time;
            T* to = results + time * channels;
            over_channels<S, 1>(count, [&](Index channel, auto lanes, auto) {
                Vector<S, lanes> sums[ROWS] = {}, here[ROWS], products[TAPS];
                for (int reader = 0; reader < TAPS + ROWS - 1; ++reader) {
                    const auto state = load<lanes>(readers + reader * grad.of_time + channel);
                    for (int row = 0; row < ROWS; ++row)
                        if (row <= reader && reader < row + TAPS)
                            sums[row] += state * load<lanes>(weight + channel +
                                                             (TAPS - 1 - reader + row) * channels);
                }
                for (int row = 0; row < ROWS; ++row) {
                    store<lanes>(to + row * channels + channel, sums[row]);
                    here[row] = load<lanes>(grads + (time + row) * grad.of_time + channel);
                }
                for (int tap = 0; tap < TAPS; ++tap)
                    products[tap] = load<lanes>(weight_sums + tap * channels + channel);
                for (int source = 0; source < TAPS + ROWS - 1; ++source) {
                    const auto state = load<lanes>(sources + source * hidden.of_time + channel);
                    for (int row = 0; row < ROWS; ++row)
                        if (row <= source && source < row + TAPS)
                            products[source - row] += here[row] * state;
                }
                for (int tap = 0; tap < TAPS; ++tap)
                    store<lanes>(weight_sums + tap * channels + channel, products[tap]);
            });
        };
        const auto edge = [&](Index time, Index low, Index high) {
            const T* readers = grads + (time + half) * grad.of_time;
            const T* sources = states + (time - half) * hidden.of_time;
            over_channels<S, 1>(count, [&](Index channel, auto lanes, auto) {
                const auto here = load<lanes>(grads + time * grad.of_time + channel);
                Vector<S, lanes> sum = {};
                for (Index tap = taps - high; tap < taps - low; ++tap)
                    sum += load<lanes>(weight + tap * channels + channel) *
                           load<lanes>(readers - tap * grad.of_time + channel);
                store<lanes>(results + time * channels + channel, sum);
                for (Index tap = low; tap < high; ++tap) {
                    S* place = weight_sums + tap * channels + channel;
                    store<lanes>(place, load<lanes>(place) +
                                            here * load<lanes>(sources + tap * hidden.of_time +
                                                               channel));
                }
            });
        };
        for_each_group<TAPS>(piece, taps, inner, edge);
    };
    in_parallel(shape.threads_worth(), parts, [&](Index part) {
        const Index end = std::min(shape.positions(), (part + 1) * each);
        for_each_piece(shape, part * each, end, [&](const Piece& piece) {
            for_each_tile(channels, [&](Index first, Index count) {
                compute(partial.get() + part * size, piece, first, count);
            });
        });
    });
    std::copy_n(partial.get(), size, grad_weights);
    for (Index part = 1; part < parts; ++part)
        for (Index i = 0; i < size; ++i) grad_weights[i] += partial[part * size + i];
}

}  // namespace
