// Vectors of numbers of every type, in the widest registers of the processor that this is built for.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace {

using Index = std::int64_t;
using Half = std::uint16_t;  // bfloat16: the upper half of a float

#if defined(__AVX512F__)
constexpr int REGISTER = 64;
#elif defined(__AVX__)
constexpr int REGISTER = 32;
#else
constexpr int REGISTER = 16;
#endif

template <typename T> struct Wide { using Sum = float; };
template <> struct Wide<double> { using Sum = double; };
template <typename T> using Sum = typename Wide<T>::Sum;

template <int N> using Constant = std::integral_constant<int, N>;

template <typename S> constexpr int LANES = REGISTER / sizeof(S);

template <typename S, int N> struct Lanes {
    typedef S type __attribute__((vector_size(N * sizeof(S))));
};
template <typename S> struct Lanes<S, 1> { using type = S; };
template <typename S, int N> using Vector = typename Lanes<S, N>::type;

template <typename To, typename From> inline To bits(const From& from) {
    static_assert(sizeof(To) == sizeof(From), "another size");
    To to;
    std::memcpy(&to, &from, sizeof(to));
    return to;
}

template <int N, typename T> inline Vector<Sum<T>, N> load(const T* from) {
    if constexpr (std::is_same_v<T, Half>) {
        if constexpr (N == 1) {
            return bits<float>(std::uint32_t(*from) << 16);
        } else {
            Vector<Half, N> halves;
            std::memcpy(&halves, from, sizeof(halves));
            return bits<Vector<float, N>>(
                __builtin_convertvector(halves, Vector<std::uint32_t, N>) << 16);
        }
    } else {
        Vector<T, N> vector;
        std::memcpy(&vector, from, sizeof(vector));
        return vector;
    }
}

template <int N, typename T> inline void store(T* to, Vector<Sum<T>, N> vector) {
    if constexpr (std::is_same_v<T, Half>) {
        using Words = Vector<std::uint32_t, N>;
        const Words words = bits<Words>(vector);
        // To the nearest, ties to even; what is not a number stays so.
        const Words rounded = (words + 0x7fff + ((words >> 16) & 1)) >> 16;
        const Words quiet = (words >> 16) | 0x40;
        const Words result = (words & 0x7fffffff) > 0x7f800000 ? quiet : rounded;
        if constexpr (N == 1) {
            *to = Half(result);
        } else {
            const auto halves = __builtin_convertvector(result, Vector<Half, N>);
            std::memcpy(to, &halves, sizeof(halves));
        }
    } else {
        std::memcpy(to, &vector, sizeof(vector));
    }
}

template <int N, typename S> inline S total(const Vector<S, N>& vector) {
    if constexpr (N == 1) {
        return vector;
    } else {
        Vector<S, N / 2> halves[2];
        std::memcpy(&halves, &vector, sizeof(vector));
        return total<N / 2, S>(halves[0] + halves[1]);
    }
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define CONVBERT_SHUFFLES
#endif
#endif

#ifdef CONVBERT_SHUFFLES
template <int SIZE, typename V, int... I>
inline V fold(const V& one, const V& other, std::integer_sequence<int, I...>) {
    // Of both vectors, in parts of a size: the even parts and the odd ones.
    return __builtin_shufflevector(one, other, (I / SIZE * 2 * SIZE + I % SIZE)...) +
           __builtin_shufflevector(one, other, (I / SIZE * 2 * SIZE + I % SIZE + SIZE)...);
}
#endif

// The sums of the lanes of some vectors: eight at once in a few shuffles.
template <int N, int COUNT, typename S> inline void totals(S* sums, Vector<S, N>* vectors) {
    int first = 0;
#ifdef CONVBERT_SHUFFLES
    if constexpr (N >= 8) {
        constexpr auto lanes = std::make_integer_sequence<int, N>();
        for (; first + 8 <= COUNT; first += 8) {
            Vector<S, N>* v = vectors + first;
            for (int i = 0; i < 4; ++i) v[i] = fold<N / 2>(v[2 * i], v[2 * i + 1], lanes);
            for (int i = 0; i < 2; ++i) v[i] = fold<N / 4>(v[2 * i], v[2 * i + 1], lanes);
            v[0] = fold<N / 8>(v[0], v[1], lanes);
            if constexpr (N == 16) v[0] = fold<1>(v[0], v[0], lanes);
            std::memcpy(sums + first, v, 8 * sizeof(S));
        }
    }
#endif
    for (; first < COUNT; ++first) sums[first] = total<N, S>(vectors[first]);
}

// e to numbers of at most 0, to the last bit or two of a float.
template <int N> inline Vector<float, N> exponential(Vector<float, N> x) {
    using Floats = Vector<float, N>;
    using Words = Vector<std::uint32_t, N>;
    constexpr float LOWEST = -87.33654f;
    const auto vanishes = x < LOWEST;
    const Floats bounded = vanishes ? Floats{} + LOWEST : x;
    // Adding it leaves the nearest whole number in the lowest bits.
    constexpr float SHIFT = 12582912.0f;
    const Floats shifted = bounded * 1.44269504f + SHIFT;
    const Floats whole = shifted - SHIFT;
    const Floats rest = (bounded - whole * 0.693359375f) + whole * 2.12194440e-4f;
    Floats series = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    series = series * rest + 8.3334519073e-3f;
    series = series * rest + 4.1665795894e-2f;
    series = series * rest + 1.6666665459e-1f;
    series = series * rest + 5.0000001201e-1f;
    series = series * rest * rest + rest + 1.0f;
    const Floats power = bits<Floats>((bits<Words>(shifted) << 23) + (127u << 23));
    return vanishes ? Floats{} : series * power;
}

inline float power(float x) { return exponential<1>(x); }
inline double power(double x) { return std::exp(x); }

template <typename S> inline void exponentials(S* numbers, Index count) {
    Index i = 0;
    if constexpr (std::is_same_v<S, float>)
        for (; i + LANES<S> <= count; i += LANES<S>)
            store<LANES<S>>(numbers + i, exponential<LANES<S>>(load<LANES<S>>(numbers + i)));
    for (; i < count; ++i) numbers[i] = power(numbers[i]);
}

}  // namespace
