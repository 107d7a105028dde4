// Rows of numbers, each computed by itself: how they are shared out, and which of them are dropped.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "positions.h"
#include "vectors.h"

namespace {

struct Rows {
    Index rows, columns;
    std::uint64_t seed;
    Index first;    // number of the first row among all whose dropout this seed decides
    Index dropped;  // of the 65,536 values of random bits
    double scale;   // of what is kept
    double eps;
    int threads;
};

constexpr int PER_WORD = 4;

// SplitMix64 (Steele et al. 2014), entered anywhere: 64 random bits by their number.
inline std::uint64_t random_word(std::uint64_t seed, Index number) {
    std::uint64_t word = seed + (std::uint64_t(number) + 1) * 0x9e3779b97f4a7c15u;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
}

template <typename S> struct Whole;
template <> struct Whole<float> { using type = std::int32_t; };
template <> struct Whole<double> { using type = std::int64_t; };

// What the numbers of a row are multiplied by: 0 where they are dropped.
template <typename S> class Kept {
  public:
    explicit Kept(const Rows& rows)
        : rows(rows), threshold(rows.dropped - (1 << 15)),
          words(new std::uint64_t[rows.columns / PER_WORD + 2]) {}

    void enter(Index row) {
        if (!rows.dropped) return;
        const Index begin = (rows.first + row) * rows.columns, end = begin + rows.columns;
        const Index first = begin / PER_WORD, count = (end + PER_WORD - 1) / PER_WORD - first;
        for (Index i = 0; i < count; ++i) words[i] = random_word(rows.seed, first + i);
        bits = reinterpret_cast<const std::int16_t*>(words.get()) + begin % PER_WORD;
    }

    template <int N> Vector<S, N> at(Index column) const {
        const S scale = S(rows.scale);
        if (!rows.dropped) return Vector<S, N>{} + scale;
        if constexpr (N == 1) {
            return bits[column] >= threshold ? scale : S(0);
        } else {
            Vector<std::int16_t, N> here;
            std::memcpy(&here, bits + column, sizeof(here));
            using Integer = typename Whole<S>::type;
            const auto wide = __builtin_convertvector(here, Vector<Integer, N>);
            return wide >= Integer(threshold) ? Vector<S, N>{} + scale : Vector<S, N>{};
        }
    }

  private:
    const Rows& rows;
    const Index threshold;
    const std::unique_ptr<std::uint64_t[]> words;
    const std::int16_t* bits = nullptr;
};

// A sum whose order follows from the number of columns alone.
template <typename S> class Total {
  public:
    template <int N> void add(Constant<N>, const Vector<S, N>& numbers) {
        if constexpr (N == 1)
            rest += numbers;
        else
            whole += numbers;
    }
    S value() const { return total<LANES<S>, S>(whole) + rest; }

  private:
    Vector<S, LANES<S>> whole = {};
    S rest = 0;
};

template <typename S, typename F> inline void over_columns(Index columns, F&& call) {
    over_channels<S, 1>(columns, [&](Index column, auto lanes, auto) { call(column, lanes); });
}

template <int N, typename S> inline void add_to(S* place, const Vector<S, N>& numbers) {
    store<N>(place, load<N>(place) + numbers);
}

// Parts are as large whatever the threads, so that sums over rows are always added in one order.
inline Index rows_of_a_part(Index rows) { return std::max<Index>(16, (rows + 63) / 64); }

// Calls for each part with a place for its `sums` sums, which are added up in `result`.
template <typename S, typename F>
void over_parts(const Rows& rows, Index sums, S* result, F&& call) {
    const Index each = rows_of_a_part(rows.rows), parts = (rows.rows + each - 1) / each;
    const Index worth = std::max<Index>(1, rows.rows * rows.columns / WORTH_A_THREAD);
    const std::unique_ptr<S[]> partial(new S[parts * sums + 1]());
    in_parallel(int(std::min<Index>(rows.threads, worth)), parts, [&](Index part) {
        call(part * each, std::min(rows.rows, (part + 1) * each), partial.get() + part * sums);
    });
    for (Index i = 0; i < sums; ++i) {
        S sum = 0;
        for (Index part = 0; part < parts; ++part) sum += partial[part * sums + i];
        result[i] = sum;
    }
}

}  // namespace
