// Softmax and dropout of the scores of attention, a row a query.
#pragma once

#include <limits>

#include "rows.h"

namespace {

// Scores become their probabilities, negative where they are dropped, so that nothing else need be
// kept. `pads`: of each text's keys, one text after the other, or none; a text has as many queries
// as keys.
template <typename S>
void dropped_softmax_forward(const Rows& rows, const bool* pads, S* scores, S* weights) {
    const Index columns = rows.columns;
    over_parts<S>(rows, 0, nullptr, [&](Index begin, Index end, S*) {
        Kept<S> kept(rows);
        for (Index row = begin; row < end; ++row) {
            S *here = scores + row * columns, *result = weights + row * columns;
            constexpr S NOTHING = -std::numeric_limits<S>::infinity();
            if (pads) {
                const bool* is_pad = pads + row / columns * columns;
                if (std::all_of(is_pad, is_pad + columns, [](bool pad) { return pad; })) {
                    std::fill(here, here + columns, S(0));
                    std::fill(result, result + columns, S(0));
                    continue;
                }
                for (Index i = 0; i < columns; ++i) here[i] = is_pad[i] ? NOTHING : here[i];
            }
            S highest = NOTHING;
            Vector<S, LANES<S>> high = Vector<S, LANES<S>>{} + NOTHING;
            over_columns<S>(columns, [&](Index i, auto lanes) {
                const auto numbers = load<lanes>(here + i);
                if constexpr (lanes == 1)
                    highest = numbers > highest ? numbers : highest;
                else
                    high = numbers > high ? numbers : high;
            });
            for (int lane = 0; lane < LANES<S>; ++lane) {
                const S one = reinterpret_cast<const S*>(&high)[lane];
                highest = one > highest ? one : highest;
            }
            for (Index i = 0; i < columns; ++i) here[i] -= highest;
            exponentials(here, columns);
            Total<S> sum;
            over_columns<S>(columns,
                            [&](Index i, auto lanes) { sum.add(lanes, load<lanes>(here + i)); });
            const S inverse = 1 / sum.value();
            kept.enter(row);
            over_columns<S>(columns, [&](Index i, auto lanes) {
                const auto probability = load<lanes>(here + i) * inverse;
                const auto factor = kept.template at<lanes>(i);
                store<lanes>(here + i, factor == 0 ? -probability : probability);
                store<lanes>(result + i, probability * factor);
            });
        }
    });
}

// Gradients of the weights become those of the scores; the weights are made once more.
template <typename S>
void dropped_softmax_backward(const Rows& rows, const S* probabilities, S* grad, S* weights) {
    const Index columns = rows.columns;
    const S scale = S(rows.scale);
    over_parts<S>(rows, 0, nullptr, [&](Index begin, Index end, S*) {
        for (Index row = begin; row < end; ++row) {
            const S* signs = probabilities + row * columns;
            S *here = grad + row * columns, *result = weights + row * columns;
            Total<S> along;
            over_columns<S>(columns, [&](Index i, auto lanes) {
                const Vector<S, lanes> probability = load<lanes>(signs + i);
                const Vector<S, lanes> weight = probability > 0 ? probability * scale : 0 * scale;
                store<lanes>(result + i, weight);
                along.add(lanes, weight * load<lanes>(here + i));
            });
            const S mean = along.value();
            over_columns<S>(columns, [&](Index i, auto lanes) {
                const Vector<S, lanes> probability = load<lanes>(signs + i);
                const Vector<S, lanes> size = probability > 0 ? probability : -probability;
                store<lanes>(here + i,
                             load<lanes>(result + i) * load<lanes>(here + i) - size * mean);
            });
        }
    });
}

}  // namespace
