// The convolutions of ConvBERT on a CPU, channels last: built and called by cpu_library.py.
//
// Plain C at the border and nothing of torch's headers, so that it is built in seconds and fits any
// version. Every result is a sum in an order that depends on the shapes alone, never on the threads.

#include "depthwise_convolution.h"
#include "span_convolution.h"

namespace {

template <typename T> States<const T> states(const void* data, const Index* strides) {
    return {static_cast<const T*>(data), strides[0], strides[1]};
}

// What trains has nine taps, in fp32 or bf16: all else is slower, and built only once.
template <typename F> void with_type_and_taps(int type, Index taps, F&& call) {
    if (type == 1)
        call(double(), Constant<0>());
    else if (type == 0 && taps == 9)
        call(float(), Constant<9>());
    else if (type == 0)
        call(float(), Constant<0>());
    else if (taps == 9)
        call(Half(), Constant<9>());
    else
        call(Half(), Constant<0>());
}

}  // namespace

// Types: 0 float, 1 double, 2 bfloat16. Strides are those of batch and time, in elements. Results
// and logits are contiguous, weights [taps, channels] and their gradient are of the type of sums.
extern "C" {

void convbert_span_forward(const Shape* shape, int type, const void* value,
                           const Index* value_strides, const void* logits, void* output) {
    with_type_and_taps(type, shape->taps, [&](auto number, auto taps) {
        using T = decltype(number);
        span_forward<taps>(*shape, states<T>(value, value_strides), static_cast<const T*>(logits),
                           static_cast<T*>(output));
    });
}

void convbert_span_backward(const Shape* shape, int type, const void* grad,
                            const Index* grad_strides, const void* value,
                            const Index* value_strides, const void* logits, void* grad_value,
                            void* grad_logits) {
    with_type_and_taps(type, shape->taps, [&](auto number, auto taps) {
        using T = decltype(number);
        span_backward<taps>(*shape, states<T>(grad, grad_strides), states<T>(value, value_strides),
                            static_cast<const T*>(logits), static_cast<T*>(grad_value),
                            static_cast<T*>(grad_logits));
    });
}

void convbert_depthwise_forward(const Shape* shape, int type, const void* hidden,
                                const Index* hidden_strides, const void* weights, void* output) {
    with_type_and_taps(type, shape->taps, [&](auto number, auto taps) {
        using T = decltype(number);
        depthwise_forward<taps>(*shape, states<T>(hidden, hidden_strides),
                                static_cast<const Sum<T>*>(weights), static_cast<T*>(output));
    });
}

void convbert_depthwise_backward(const Shape* shape, int type, const void* grad,
                                 const Index* grad_strides, const void* hidden,
                                 const Index* hidden_strides, const void* weights,
                                 void* grad_hidden, void* grad_weights) {
    with_type_and_taps(type, shape->taps, [&](auto number, auto taps) {
        using T = decltype(number);
        depthwise_backward<taps>(
            *shape, states<T>(grad, grad_strides), states<T>(hidden, hidden_strides),
            static_cast<const Sum<T>*>(weights), static_cast<T*>(grad_hidden),
            static_cast<Sum<T>*>(grad_weights));
    });
}
}
