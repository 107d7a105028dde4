// A bias, dropout, the residual connection and LayerNorm in one pass over the rows.
#pragma once

#include "rows.h"

namespace {

// `moments`: mean and inverse standard deviation of each row of `summed`.
template <typename T>
void residual_norm_forward(const Rows& rows, const T* states, const Sum<T>* states_bias,
                           const T* residual, const Sum<T>* weight, const Sum<T>* bias, T* output,
                           T* summed, Sum<T>* moments) {
    using S = Sum<T>;
    const Index columns = rows.columns;
    over_parts<S>(rows, 0, nullptr, [&](Index begin, Index end, S*) {
        Kept<S> kept(rows);
        for (Index row = begin; row < end; ++row) {
            const T *here = states + row * columns, *other = residual + row * columns;
            T *sums = summed + row * columns, *result = output + row * columns;
            kept.enter(row);
            Total<S> sum, squares;
            over_columns<S>(columns, [&](Index i, auto lanes) {
                const auto biased = load<lanes>(here + i) + load<lanes>(states_bias + i);
                store<lanes>(sums + i,
                             load<lanes>(other + i) + biased * kept.template at<lanes>(i));
                sum.add(lanes, load<lanes>(sums + i));
            });
            const S mean = sum.value() / columns;
            over_columns<S>(columns, [&](Index i, auto lanes) {
                const auto centered = load<lanes>(sums + i) - mean;
                squares.add(lanes, centered * centered);
            });
            const S inverse = 1 / std::sqrt(squares.value() / columns + S(rows.eps));
            over_columns<S>(columns, [&](Index i, auto lanes) {
                store<lanes>(result + i, (load<lanes>(sums + i) - mean) * inverse *
                                                 load<lanes>(weight + i) +
                                             load<lanes>(bias + i));
            });
            moments[2 * row] = mean;
            moments[2 * row + 1] = inverse;
        }
    });
}

// `grad_vectors`: of weight, bias and the bias of the states, one after the other.
template <typename T>
void residual_norm_backward(const Rows& rows, const T* grad, const T* summed, const Sum<T>* moments,
                            const Sum<T>* weight, T* grad_states, T* grad_residual,
                            Sum<T>* grad_vectors) {
    using S = Sum<T>;
    const Index columns = rows.columns;
    over_parts<S>(rows, 3 * columns, grad_vectors, [&](Index begin, Index end, S* vectors) {
        Kept<S> kept(rows);
        for (Index row = begin; row < end; ++row) {
            const T *grads = grad + row * columns, *sums = summed + row * columns;
            T *of_states = grad_states + row * columns, *of_residual = grad_residual + row * columns;
            const S mean = moments[2 * row], inverse = moments[2 * row + 1];
            kept.enter(row);
            Total<S> all, along;
            over_columns<S>(columns, [&](Index i, auto lanes) {
                const auto here = load<lanes>(grads + i);
                const auto normal = (load<lanes>(sums + i) - mean) * inverse;
                const auto weighed = here * load<lanes>(weight + i);
                all.add(lanes, weighed);
                along.add(lanes, weighed * normal);
                add_to<lanes>(vectors + i, here * normal);
                add_to<lanes>(vectors + columns + i, here);
            });
            const S by_mean = all.value() / columns, by_deviation = along.value() / columns;
            over_columns<S>(columns, [&](Index i, auto lanes) {
                const auto normal = (load<lanes>(sums + i) - mean) * inverse;
                const auto weighed = load<lanes>(grads + i) * load<lanes>(weight + i);
                const auto result = (weighed - by_mean - normal * by_deviation) * inverse;
                const auto dropped = result * kept.template at<lanes>(i);
                store<lanes>(of_residual + i, result);
                store<lanes>(of_states + i, dropped);
                add_to<lanes>(vectors + 2 * columns + i, dropped);
            });
        }
    });
}

}  // namespace
