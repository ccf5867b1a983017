// identity, where, cast, bitcast.
#include "ops/broadcast.h"
#include "ops/shape_util.h"
#include "ops/stage.h"

namespace dk {
namespace {

Status infer_identity(OpContext& c) { return c.set_out_like(0, *c.in(0)); }

// ---- where
Status infer_where(OpContext& c) {
  const Tensor* in[3] = {c.in(0), c.in(1), c.in(2)};
  if (in[0]->dtype != DType::b8)
    return c.fail(Code::shape, "dtype of condition; got %s, expected bool", dtype_name(in[0]->dtype));
  DK_TRY(same_dtype(c, 1, 2));
  int64_t dims[kMaxRank];
  int rank;
  DK_TRY(broadcast_shapes(c, in, 3, dims, &rank));
  return c.set_out(0, in[1]->dtype, rank, dims);
}

struct WhereState {
  Broadcast broadcast;
  const ElementwiseKernels* kernels;
};

Status prepare_where(OpContext& c) {
  WhereState* s;
  DK_TRY(c.make_state(&s));
  const Tensor* in[3] = {c.in(0), c.in(1), c.in(2)};
  plan_broadcast(&s->broadcast, in, 3, *c.out(0));
  s->kernels = DK_PICK_KERNELS(elementwise);
  return {};
}

// T: an unsigned integer of the element's size.
template <class T, bool kStepX, bool kStepY>
void choose(const uint8_t* condition, const T* x, const T* y, T* z, int64_t n) {
  const T x0 = *x, y0 = *y;
  for (int64_t i = 0; i < n; ++i) {
    const T a = kStepX ? x[i] : x0, b = kStepY ? y[i] : y0;
    z[i] = condition[i] ? a : b;
  }
}

template <class T>
void where_part(const ElementwiseKernels* k, const Part& p, void* out) {
  const uint8_t* condition = static_cast<const uint8_t*>(p.in[0]);
  const T* x = static_cast<const T*>(p.in[1]);
  const T* y = static_cast<const T*>(p.in[2]);
  T* z = static_cast<T*>(out) + p.at;
  if (!p.step[0]) {
    const T* from = *condition ? x : y;
    if (z == from) return;  // in place
    if (p.step[*condition ? 1 : 2])
      memcpy(z, from, static_cast<size_t>(p.n) * sizeof(T));
    else
      for (int64_t i = 0; i < p.n; ++i) z[i] = *from;
  } else if (sizeof(T) == 4) {
    k->where32(condition, x, y, z, p.n, p.step[1], p.step[2]);
  } else if (p.step[1] && p.step[2]) {
    choose<T, true, true>(condition, x, y, z, p.n);
  } else if (p.step[1]) {
    choose<T, true, false>(condition, x, y, z, p.n);
  } else if (p.step[2]) {
    choose<T, false, true>(condition, x, y, z, p.n);
  } else {
    choose<T, false, false>(condition, x, y, z, p.n);
  }
}

Status run_where(OpContext& c) {
  const WhereState& s = *c.state<WhereState>();
  const Broadcast& b = s.broadcast;
  const void* data[3] = {c.in(0)->data, c.in(1)->data, c.in(2)->data};
  void* out = c.out(0)->data;
  const size_t size = dtype_size(c.out(0)->dtype);
  void (*part)(const ElementwiseKernels*, const Part&, void*) = size == 1   ? where_part<uint8_t>
                                                                : size == 2 ? where_part<uint16_t>
                                                                : size == 4 ? where_part<uint32_t>
                                                                            : where_part<uint64_t>;
  c.parallel(b.count, 16384, [&](int64_t begin, int64_t end, int) {
    each_part(b, data, begin, end, [&](const Part& p) { part(s.kernels, p, out); });
  });
  return {};
}

// ---- cast
Status infer_cast(OpContext& c) {
  const DType to = static_cast<DType>(c.attr_int(attr::cast_::dtype));
  if (dtype_size(to) == 0) return c.fail(Code::shape, "attr 'dtype' is no dtype of the engine");
  return c.set_out(0, to, c.in(0)->rank, c.in(0)->dims);
}

Status run_cast(OpContext& c) {
  const Tensor& x = *c.in(0);
  const Tensor& y = *c.out(0);
  const DType from = x.dtype, to = y.dtype;
  const bool saturate = c.attr_int(attr::cast_::saturate) != 0;
  const ElementwiseKernels* k = DK_PICK_KERNELS(elementwise);
  const char* a = static_cast<const char*>(x.data);
  char* b = static_cast<char*>(y.data);
  const bool small = dtype_size(to) == 1 && is_float(to);
  c.parallel(x.count(), 8192, [&](int64_t begin, int64_t end, int) {
    const char* in = a + static_cast<size_t>(begin) * dtype_size(from);
    char* out = b + static_cast<size_t>(begin) * dtype_size(to);
    if (small)
      convert(from, in, to, out, end - begin, saturate);
    else if (from == DType::f32)
      stage_out(k, from, in, to, out, end - begin);
    else
      stage_in(k, from, in, to, out, end - begin);
  });
  return {};
}

// ---- bitcast
int bits_of(DType t) {
  switch (t) {
    case DType::s4:
    case DType::u4:
    case DType::f4e2m1fn: return 4;
    case DType::s2:
    case DType::u2: return 2;
    case DType::b8: return 0;
    default: return static_cast<int>(dtype_size(t)) * 8;
  }
}

Status infer_bitcast(OpContext& c) {
  const DType from = c.in(0)->dtype, to = static_cast<DType>(c.attr_int(attr::bitcast_::dtype));
  if (bits_of(from) != bits_of(to) || bits_of(to) == 0)
    return c.fail(Code::shape, "bits can only be read as another dtype of the same width; got %s to %s",
                  dtype_name(from), dtype_name(to));
  return c.set_out(0, to, c.in(0)->rank, c.in(0)->dims);
}

Status run_bitcast(OpContext& c) {
  const Tensor& x = *c.in(0);
  const int bits = bits_of(x.dtype);
  if (bits >= 8) {
    copy_bytes(c, c.out(0)->data, x.data, x.bytes());
  } else {
    const int64_t n = x.count();
    for (int64_t i = 0; i < n; ++i) c.out(0)->as<uint8_t>()[i] = x.as<uint8_t>()[i] & ((1 << bits) - 1);
  }
  return {};
}

const OpDef kDefs[] = {
    {Opcode::identity_, infer_identity, nullptr, nullptr, 0},
    {Opcode::where_, infer_where, prepare_where, run_where, 7},
    {Opcode::cast_, infer_cast, nullptr, run_cast, 0},
    {Opcode::bitcast_, infer_bitcast, nullptr, run_bitcast, 0},
};

}  // namespace

extern const OpList ops_elementwise_select;
const OpList ops_elementwise_select = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
