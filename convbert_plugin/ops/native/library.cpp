// What is slow of ConvBERT on a CPU: built by cpu_library.py.
//
// Plain C at the border and nothing of torch's headers, so that it is built in seconds and fits any
// version. Every result is a sum in an order that depends on the shapes alone, never on the threads.

#include "depthwise_convolution.h"
#include "dropped_softmax.h"
#include "gelu.h"
#include "residual_norm.h"
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

template <typename F> void with_type(int type, F&& call) {
    if (type == 0)
        call(float());
    else if (type == 1)
        call(double());
    else
        call(Half());
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

// Of the rows that follow all is contiguous, and vectors of a row's size are of the type of sums.
void convbert_residual_norm_forward(const Rows* rows, int type, const void* states,
                                    const void* states_bias, const void* residual,
                                    const void* weight, const void* bias, void* output,
                                    void* summed, void* moments) {
    with_type(type, [&](auto number) {
        using T = decltype(number);
        using S = Sum<T>;
        residual_norm_forward<T>(
            *rows, static_cast<const T*>(states), static_cast<const S*>(states_bias),
            static_cast<const T*>(residual), static_cast<const S*>(weight),
            static_cast<const S*>(bias), static_cast<T*>(output), static_cast<T*>(summed),
            static_cast<S*>(moments));
    });
}

void convbert_residual_norm_backward(const Rows* rows, int type, const void* grad,
                                     const void* summed, const void* moments, const void* weight,
                                     void* grad_states, void* grad_residual, void* grad_vectors) {
    with_type(type, [&](auto number) {
        using T = decltype(number);
        using S = Sum<T>;
        residual_norm_backward<T>(
            *rows, static_cast<const T*>(grad), static_cast<const T*>(summed),
            static_cast<const S*>(moments), static_cast<const S*>(weight),
            static_cast<T*>(grad_states), static_cast<T*>(grad_residual),
            static_cast<S*>(grad_vectors));
    });
}

void convbert_gelu_forward(const Rows* rows, int type, const void* states, const void* bias,
                           void* output) {
    with_type(type, [&](auto number) {
        using T = decltype(number);
        gelu_forward<T>(*rows, static_cast<const T*>(states), static_cast<const Sum<T>*>(bias),
                        static_cast<T*>(output));
    });
}

void convbert_gelu_backward(const Rows* rows, int type, const void* grad, const void* states,
                            const void* bias, void* grad_states, void* grad_bias) {
    with_type(type, [&](auto number) {
        using T = decltype(number);
        gelu_backward<T>(*rows, static_cast<const T*>(grad), static_cast<const T*>(states),
                         static_cast<const Sum<T>*>(bias), static_cast<T*>(grad_states),
                         static_cast<Sum<T>*>(grad_bias));
    });
}

void convbert_dropped_softmax_forward(const Rows* rows, int type, const void* pads, void* scores,
                                      void* weights) {
    if (type == 1)
        dropped_softmax_forward(*rows, static_cast<const bool*>(pads),
                                static_cast<double*>(scores), static_cast<double*>(weights));
    else
        dropped_softmax_forward(*rows, static_cast<const bool*>(pads), static_cast<float*>(scores),
                                static_cast<float*>(weights));
}

void convbert_dropped_softmax_backward(const Rows* rows, int type, const void* probabilities,
                                       void* grad, void* weights) {
    if (type == 1)
        dropped_softmax_backward(*rows, static_cast<const double*>(probabilities),
                                 static_cast<double*>(grad), static_cast<double*>(weights));
    else
        dropped_softmax_backward(*rows, static_cast<const float*>(probabilities),
                                 static_cast<float*>(grad), static_cast<float*>(weights));
}
}
