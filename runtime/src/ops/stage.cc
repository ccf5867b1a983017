#include "ops/stage.h"

namespace dk {

void stage_in(const ElementwiseKernels* k, DType from, const void* in, DType wide, void* out, int64_t n) {
  if (wide == DType::f32 && from == DType::f16)
    k->f32_from_f16(static_cast<const uint16_t*>(in), static_cast<float*>(out), n);
  else if (wide == DType::f32 && from == DType::bf16)
    k->f32_from_bf16(static_cast<const uint16_t*>(in), static_cast<float*>(out), n);
  else if (wide == DType::f32 && from == DType::u8)
    k->f32_from_u8(static_cast<const uint8_t*>(in), static_cast<float*>(out), n);
  else if (wide == DType::f32 && from == DType::s8)
    k->f32_from_s8(static_cast<const int8_t*>(in), static_cast<float*>(out), n);
  else if (wide == DType::f32 && from == DType::s32)
    k->f32_from_s32(static_cast<const int32_t*>(in), static_cast<float*>(out), n);
  else
    convert(from, in, wide, out, n);
}

void stage_out(const ElementwiseKernels* k, DType wide, const void* in, DType to, void* out, int64_t n) {
  if (wide == DType::f32 && to == DType::f16)
    k->f16_from_f32(static_cast<const float*>(in), static_cast<uint16_t*>(out), n);
  else if (wide == DType::f32 && to == DType::bf16)
    k->bf16_from_f32(static_cast<const float*>(in), static_cast<uint16_t*>(out), n);
  else
    convert(wide, in, to, out, n, false);
}

}  // namespace dk
