// What the integer ops share: checks of 8-bit operands, and zero points, bounds and multipliers in the form that the
// kernels take (signed bytes as unsigned ones 128 higher).  The arithmetic is that of deploykit/ops/quantized.py.
#pragma once
#include "kernels/qgemm/qgemm.h"
#include "ops/epilogue.h"
#include "ops/op.h"

namespace dk {

inline bool is_byte(DType t) { return t == DType::s8 || t == DType::u8; }
inline uint8_t flip_of(DType t) { return t == DType::s8 ? 0x80 : 0; }
inline int32_t shift_of(DType t) { return t == DType::s8 ? 128 : 0; }

// Absent, or int8 or uint8.
Status expect_bytes(const OpContext& c, const char* what, const Tensor* t);
// The attr is a number of the dtype.
Status expect_zero_point(const OpContext& c, const char* what, int attr, DType t);
// The attr is finite and at most 2^64 in size.
Status expect_scale(const OpContext& c, const char* what, int attr);
// The numbers of a float32 tensor are.
Status expect_multipliers(const OpContext& c, const Tensor& t);

// None is above 1/2 in size: see QEpilogue::small.
bool small_multipliers(const Tensor& t);

struct QResultAttrs {
  int zero_point, low, high, dtype;
};
// dtype of the result; checks zero point and bounds.
Status result_of(const OpContext& c, const QResultAttrs& a, bool floats, DType* to);
// Sets zero, low, high and flip (and floats).
void set_result(const OpContext& c, const QResultAttrs& a, DType t, QEpilogue* e);

struct QResidualAttrs {
  int mid_scale, mid_low, mid_high, residual_scale, residual_zero_point;
};
Status check_residual(const OpContext& c, const QResidualAttrs& a, const Tensor* residual);
void set_residual(const OpContext& c, const QResidualAttrs& a, const Tensor* residual, QEpilogue* e);

// The zero point of x in the sign that the kernels read, and what turns the bytes of x into it.
struct QOperand {
  int32_t zero;
  uint32_t flip;
};
QOperand operand_of(DType t, int64_t zero_point, bool a_signed);

// to[i] = bias[i] - zero * sums[i] for n columns (bias may be null); wraps.
void fold_zero_point(const int32_t* bias, const int32_t* sums, int32_t zero, int64_t n, int32_t* to);

}  // namespace dk
