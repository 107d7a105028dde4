// Where the texts of a batch lie, and which thread computes what.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vectors.h"

// The threads of torch itself: its OpenMP is in the process already. (A pragma would be built for
// the compiler's, and two sets of threads wait for each other.) Without it there is one thread.
extern "C" {
__attribute__((weak)) void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned);
__attribute__((weak)) int omp_get_thread_num();
__attribute__((weak)) int omp_get_num_threads();
}

namespace {

// Rows that are computed at once: what belongs to them stays in the first caches.
constexpr Index BLOCK = 32;
// Below it, waking threads costs more than they save.
constexpr Index WORTH_A_THREAD = 1 << 15;

// A batch [batch, length, channels] whose channels are contiguous.
template <typename T> struct States {
    T* data;
    Index of_batch, of_time;
};

struct Shape {
    Index batch, length, channels, heads, taps;
    const Index* ends;  // of texts, from 0 to batch * length; none: the rows are the texts
    Index texts;
    int threads;

    Index positions() const { return batch * length; }
    int threads_worth() const {
        const Index most = positions() * channels / WORTH_A_THREAD;
        return int(std::max<Index>(1, std::min<Index>(threads, most)));
    }
};

// Part [begin, end) of a text [first, last), all counted from the row's first position.
struct Piece {
    Index row, first, last, begin, end;
};

template <typename F> void for_each_piece(const Shape& shape, Index begin, Index end, F&& call) {
    Index text = shape.ends ? std::upper_bound(shape.ends, shape.ends + shape.texts, begin) -
                                  shape.ends - 1
                            : begin / shape.length;
    while (begin < end) {
        const Index start = shape.ends ? shape.ends[text] : text * shape.length;
        const Index stop = shape.ends ? shape.ends[text + 1] : start + shape.length;
        ++text;
        while (begin < std::min(stop, end)) {
            const Index row = begin / shape.length, zero = row * shape.length;
            const Index until = std::min({stop, end, begin + BLOCK});
            call(Piece{row, start - zero, stop - zero, begin - zero, until - zero});
            begin = until;
        }
    }
}

template <typename F> void in_parallel(int threads, Index count, F&& call) {
    auto team = [&](int member, int members) {
        for (Index i = count * member / members; i < count * (member + 1) / members; ++i) call(i);
    };
    using Team = decltype(team);
    if (threads == 1 || !GOMP_parallel || !omp_get_thread_num || !omp_get_num_threads)
        return team(0, 1);
    const auto run = [](void* given) {
        (*static_cast<Team*>(given))(omp_get_thread_num(), omp_get_num_threads());
    };
    GOMP_parallel(run, &team, threads, 0);
}

// One contiguous part of the positions a thread.
template <typename F> void over_positions(const Shape& shape, F&& call) {
    const int parts = shape.threads_worth();
    const Index each = (shape.positions() + parts - 1) / parts;
    in_parallel(parts, parts, [&](Index part) {
        call(part * each, std::min(shape.positions(), (part + 1) * each));
    });
}

// Calls for as many channels at once as fit, in widths that the compiler knows.
template <typename S, int WIDE, typename F> inline void over_channels(Index channels, F&& call) {
    Index channel = 0;
    for (; channel + WIDE * LANES<S> <= channels; channel += WIDE * LANES<S>)
        call(channel, Constant<LANES<S>>(), Constant<WIDE>());
    for (; channel + LANES<S> <= channels; channel += LANES<S>)
        call(channel, Constant<LANES<S>>(), Constant<1>());
    for (; channel < channels; ++channel)
        call(channel, Constant<1>(), Constant<1>());
}

}  // namespace
