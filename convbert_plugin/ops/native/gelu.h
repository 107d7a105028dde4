// The exact GELU of a product and its bias.
#pragma once

#include "rows.h"

namespace {

// The distribution and the density of the normal distribution.
template <int N, typename S>
inline void normal(const Vector<S, N>& x, Vector<S, N>& distribution, Vector<S, N>& density) {
    if constexpr (std::is_same_v<S, float>) {
        // Abramowitz and Stegun 7.1.26, to 1.5e-7: what torch's own vectors compute.
        using Floats = Vector<float, N>;
        const Floats size = (x < 0 ? -x : x) * 0.70710678f;
        const Floats t = 1 / (size * 0.3275911f + 1);
        const Floats power = exponential<N>(-size * size);
        Floats series = t * 1.061405429f - 1.453152027f;
        series = series * t + 1.421413741f;
        series = series * t - 0.284496736f;
        series = series * t + 0.254829592f;
        const Floats tail = series * t * power * 0.5f;
        distribution = x < 0 ? tail : 1 - tail;
        density = power * 0.39894228f;
    } else {
        const auto of_one = [](S one, S& below, S& here) {
            below = std::erfc(-one * 0.70710678118654752440) / 2;
            here = std::exp(-one * one / 2) * 0.39894228040143267794;
        };
        if constexpr (N == 1)
            of_one(x, distribution, density);
        else
            for (int i = 0; i < N; ++i) {
                S below, here;
                of_one(x[i], below, here);
                distribution[i] = below;
                density[i] = here;
            }
    }
}

template <typename T>
void gelu_forward(const Rows& rows, const T* states, const Sum<T>* bias, T* output) {
    using S = Sum<T>;
    over_parts<S>(rows, 0, nullptr, [&](Index begin, Index end, S*) {
        for (Index row = begin; row < end; ++row)
            over_columns<S>(rows.columns, [&](Index i, auto lanes) {
                const Index place = row * rows.columns + i;
                const Vector<S, lanes> x = load<lanes>(states + place) + load<lanes>(bias + i);
                Vector<S, lanes> distribution, density;
                normal<lanes, S>(x, distribution, density);
                store<lanes>(output + place, x * distribution);
            });
    });
}

template <typename T>
void gelu_backward(const Rows& rows, const T* grad, const T* states, const Sum<T>* bias,
                   T* grad_states, Sum<T>* grad_bias) {
    using S = Sum<T>;
    over_parts<S>(rows, rows.columns, grad_bias, [&](Index begin, Index end, S* sums) {
        for (Index row = begin; row < end; ++row)
            over_columns<S>(rows.columns, [&](Index i, auto lanes) {
                const Index place = row * rows.columns + i;
                const Vector<S, lanes> x = load<lanes>(states + place) + load<lanes>(bias + i);
                Vector<S, lanes> distribution, density;
                normal<lanes, S>(x, distribution, density);
                const auto result = load<lanes>(grad + place) * (distribution + x * density);
                store<lanes>(grad_states + place, result);
                add_to<lanes>(sums + i, result);
            });
    });
}

}  // namespace
