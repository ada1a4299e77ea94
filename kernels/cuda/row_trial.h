#pragma once

#include <cstdint>
#include <functional>

#include "kernels/cuda/device_stream.h"
#include "kernels/tensor.h"

namespace quire::cuda {

/// out = a * weight^T by some library; false if it does not take the sizes.
using MultiplyRows = std::function<bool(const ConstTensorView& a, const ConstTensorView& weight,
                                        const TensorView& out)>;

/// Whether a product of [n, k] weights gives a row the same bits among few rows and among many, and
/// at any place among them: random rows, each of them several times, are multiplied in batches of
/// many sizes and compared with the largest batch, on the device. Takes its memory from the device
/// and gives it back. Throws DeviceError.
bool rows_are_independent(int64_t n, int64_t k, const OpStream& stream,
                          const MultiplyRows& multiply);

}  // namespace quire::cuda
