// The source of all reduce_<isa>.cc; see reduce.h for the contract.
#include "kernels/reduce/reduce.h"
#include "simd/vec.h"

namespace dk {
namespace {
using namespace simd;

constexpr int64_t kRowBlock = 1024;
constexpr int64_t kColumnBlock = 64;

struct Sum {
  static constexpr float identity = 0;
  static DK_INL f32 map(f32 x) { return x; }
  static DK_INL f32 fold(f32 a, f32 x) { return a + x; }
  static DK_INL double fold(double a, double x) { return a + x; }
};
struct SumAbs : Sum {
  static DK_INL f32 map(f32 x) { return vabs(x); }
};
struct SumSquare : Sum {
  static DK_INL f32 map(f32 x) { return x * x; }
};
struct Product {
  static constexpr float identity = 1;
  static DK_INL f32 map(f32 x) { return x; }
  static DK_INL f32 fold(f32 a, f32 x) { return a * x; }
  static DK_INL double fold(double a, double x) { return a * x; }
};
// A NaN in x replaces the accumulator, a NaN in the accumulator stays: vmax(x, a) is a when either is NaN.
struct Max {
  static constexpr float identity = -__builtin_inff();
  static DK_INL f32 map(f32 x) { return x; }
  static DK_INL f32 fold(f32 a, f32 x) { return select<f32>(x != x, x, vmax(x, a)); }
  static DK_INL double fold(double a, double x) { return x > a || x != x ? x : a; }
};
struct Min {
  static constexpr float identity = __builtin_inff();
  static DK_INL f32 map(f32 x) { return x; }
  static DK_INL f32 fold(f32 a, f32 x) { return select<f32>(x != x, x, vmin(x, a)); }
  static DK_INL double fold(double a, double x) { return x < a || x != x ? x : a; }
};

template <class Op>
double row(const float* x, int64_t n) {
  const f32 identity = splat<f32>(Op::identity);
  double total = Op::identity;
  for (int64_t begin = 0; begin < n; begin += kRowBlock) {
    const int64_t end = n - begin < kRowBlock ? n : begin + kRowBlock;
    f32 a[4] = {identity, identity, identity, identity};
    int64_t i = begin;
    for (; i + 4 * kW <= end; i += 4 * kW) {
      DK_UNROLL
      for (int k = 0; k < 4; ++k) a[k] = Op::fold(a[k], Op::map(load<f32>(x + i + k * kW)));
    }
    for (; i + kW <= end; i += kW) a[0] = Op::fold(a[0], Op::map(load<f32>(x + i)));
    if (i < end) {
      const int m = static_cast<int>(end - i);
      a[1] = Op::fold(a[1], select<f32>(first<f32>(m), Op::map(load_n<f32>(x + i, m)), identity));
    }
    float lane[kW];
    store(lane, Op::fold(Op::fold(a[0], a[1]), Op::fold(a[2], a[3])));
    for (int k = 0; k < kW; ++k) total = Op::fold(total, static_cast<double>(lane[k]));
  }
  return total;
}

// kVectors vectors of columns, the last of them with `tail` lanes.
template <class Op, int kVectors>
DK_INL void column_strip(const float* x, int64_t rows, int tail, int64_t stride, double* to) {
  const f32 identity = splat<f32>(Op::identity);
  for (int64_t begin = 0; begin < rows; begin += kColumnBlock) {
    const int64_t end = rows - begin < kColumnBlock ? rows : begin + kColumnBlock;
    f32 a[kVectors];
    DK_UNROLL
    for (int k = 0; k < kVectors; ++k) a[k] = identity;
    for (int64_t r = begin; r < end; ++r) {
      const float* p = x + r * stride;
      DK_UNROLL
      for (int k = 0; k < kVectors; ++k) {
        const bool whole = k + 1 < kVectors || tail == kW;
        a[k] = Op::fold(a[k], Op::map(whole ? load<f32>(p + k * kW) : load_n<f32>(p + k * kW, tail)));
      }
    }
    float lane[kVectors * kW];
    DK_UNROLL
    for (int k = 0; k < kVectors; ++k) store(lane + k * kW, a[k]);
    const int n = (kVectors - 1) * kW + tail;
    for (int k = 0; k < n; ++k) to[k] = Op::fold(to[k], static_cast<double>(lane[k]));
  }
}

template <class Op>
void columns(const float* x, int64_t rows, int count, int64_t stride, double* to) {
  int c = 0;
  for (; c + 4 * kW <= count; c += 4 * kW) column_strip<Op, 4>(x + c, rows, kW, stride, to + c);
  for (; c < count; c += kW) column_strip<Op, 1>(x + c, rows, count - c < kW ? count - c : kW, stride, to + c);
}

int64_t find(const float* x, int64_t n, float v, bool last) {
  constexpr int64_t kBlock = 4 * kW;
  const f32 wanted = splat<f32>(v);
  const int64_t blocks = n / kBlock;
  const auto among = [&](int64_t begin, int64_t end) -> int64_t {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = last ? end - 1 - (i - begin) : i;
      if (x[at] == v) return at;
    }
    return -1;
  };
  int64_t tail = last ? among(blocks * kBlock, n) : -1;
  if (tail >= 0) return tail;
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t i = (last ? blocks - 1 - b : b) * kBlock;
    s32 hit = {};
    DK_UNROLL
    for (int k = 0; k < 4; ++k) hit = hit | (load<f32>(x + i + k * kW) == wanted);
    if (hmax(select<f32>(hit, splat<f32>(1.0f), f32{})) > 0.0f) return among(i, i + kBlock);
  }
  return last ? -1 : among(blocks * kBlock, n);
}

const ReduceKernels kTable = {
    {row<Sum>, row<SumAbs>, row<SumSquare>, row<Product>, row<Max>, row<Min>},
    {columns<Sum>, columns<SumAbs>, columns<SumSquare>, columns<Product>, columns<Max>, columns<Min>},
    find,
};
}  // namespace

#define DK_CAT2(a, b) a##b
#define DK_CAT(a, b) DK_CAT2(a, b)
const ReduceKernels* DK_CAT(reduce_, DK_ISA_SUFFIX)() { return &kTable; }

}  // namespace dk
