// Ops of one operand: math, rounding, tests, activations, clip.  As in elementwise_binary.cc an op is a loop per wide
// type, f32 from the SIMD tables where these have it, and narrower dtypes go through blocks on the stack.
#include <cmath>

#include "ops/broadcast.h"
#include "ops/stage.h"

namespace dk {
namespace {

struct UnaryState {
  const ElementwiseKernels* kernels;
  UnaryLoop loop;
  DType wide;    // what the loop reads
  DType result;  // what it writes: wide or b8
  DType in;
  DType out;
  bool staged;
  int64_t grain;
  uint64_t args[3];  // numbers of the wide type, packed as an array of it
};

// ---- scalar forms.  a: the args.
template <class T, T (*kFn)(T, const T*)>
void loop(const void* px, void* py, int64_t n, const void* args) {
  const T* x = static_cast<const T*>(px);
  T* y = static_cast<T*>(py);
  for (int64_t i = 0; i < n; ++i) y[i] = kFn(x[i], static_cast<const T*>(args));
}
template <class T, T (*kFn)(T)>
void loop_plain(const void* px, void* py, int64_t n, const void*) {
  const T* x = static_cast<const T*>(px);
  T* y = static_cast<T*>(py);
  for (int64_t i = 0; i < n; ++i) y[i] = kFn(x[i]);
}
template <class T, bool (*kFn)(T, const T*)>
void loop_test(const void* px, void* py, int64_t n, const void* args) {
  const T* x = static_cast<const T*>(px);
  uint8_t* y = static_cast<uint8_t*>(py);
  for (int64_t i = 0; i < n; ++i) y[i] = kFn(x[i], static_cast<const T*>(args));
}

#define DK_F64(name, ...) \
  double name##_f64(double x, const double* a) { return __VA_ARGS__; }
double sigmoid_of(double x) { return 1 / (1 + exp(-x)); }
double softplus_of(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }
double clip_of(double x, double low, double high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}
double elu_of(double x, double alpha) { return x > 0 ? x : alpha * expm1(x); }
DK_F64(abs, fabs(x))
DK_F64(neg, -x)
DK_F64(sign, x > 0 ? 1 : x < 0 ? -1 : x)
DK_F64(floor, floor(x))
DK_F64(ceil, ceil(x))
DK_F64(round, nearbyint(x))
DK_F64(trunc, trunc(x))
DK_F64(sqrt, sqrt(x))
DK_F64(rsqrt, 1 / sqrt(x))
DK_F64(reciprocal, 1 / x)
DK_F64(square, x* x)
DK_F64(exp, exp(x))
DK_F64(expm1, expm1(x))
DK_F64(log, log(x))
DK_F64(log1p, log1p(x))
DK_F64(tanh, tanh(x))
DK_F64(erf, erf(x))
DK_F64(relu, x < 0 ? 0 : x)
DK_F64(relu6, clip_of(x, 0, 6))
DK_F64(clip, clip_of(x, a[0], a[1]))
DK_F64(leaky_relu, x < 0 ? x * a[0] : x)
DK_F64(elu, elu_of(x, a[0]))
DK_F64(selu, a[1] * elu_of(x, a[0]))
DK_F64(sigmoid, sigmoid_of(x))
DK_F64(hard_sigmoid, clip_of(a[0] * x + a[1], 0, 1))
DK_F64(hard_swish, x* clip_of(x / 6 + 0.5, 0, 1))
DK_F64(silu, x* sigmoid_of(a[0] * x))
DK_F64(gelu, 0.5 * x * (1 + erf(x * 0.70710678118654752440)))
DK_F64(gelu_tanh, 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))))
DK_F64(sin, sin(x))
DK_F64(cos, cos(x))
DK_F64(softplus, softplus_of(x))
DK_F64(softsign, x / (1 + fabs(x)))
DK_F64(mish, x* tanh(softplus_of(x)))
DK_F64(thresholded_relu, x > a[0] ? x : 0)
DK_F64(shrink, x<-a[0] ? x + a[1] : x> a[0] ? x - a[1] : 0)
DK_F64(celu, (x > 0 ? x : 0) + (x < 0 ? a[0] * expm1(x / a[0]) : 0))
#undef DK_F64

// Integers: T is int64_t or uint64_t; arithmetic wraps.
template <class T>
T int_neg(T x, const T*) {
  return static_cast<T>(0 - static_cast<uint64_t>(x));
}
template <class T>
T int_abs(T x, const T*) {
  return x < 0 ? int_neg(x, static_cast<const T*>(nullptr)) : x;
}
template <class T>
T int_sign(T x, const T*) {
  return x > 0 ? 1 : x < 0 ? static_cast<T>(-1) : 0;
}
template <class T>
T int_square(T x, const T*) {
  return static_cast<T>(static_cast<uint64_t>(x) * static_cast<uint64_t>(x));
}
template <class T>
T int_not(T x, const T*) {
  return ~x;
}
template <class T>
T int_relu(T x, const T*) {
  return x < 0 ? 0 : x;
}
template <class T>
T int_clip(T x, const T* a) {
  x = x < a[0] ? a[0] : x;
  return x > a[1] ? a[1] : x;
}

template <class T>
bool is_nan(T x, const T*) {
  return x != x;
}
template <class T>
bool is_inf(T x, const T* a) {
  return (a[0] != 0 && x == -static_cast<T>(INFINITY)) || (a[1] != 0 && x == static_cast<T>(INFINITY));
}

bool bool_not(uint8_t x, const uint8_t*) { return x == 0; }

// ---- the table of ops
struct UnaryOp {
  uint8_t kinds;
  bool tests;    // bool result
  int8_t simd;   // index in the SIMD table; -1: f32 below
  uint8_t cost;  // relative time per element
  UnaryLoop f32, f64, s64, u64;
};

#define DK_INTS(fn) loop<int64_t, fn<int64_t>>, loop<uint64_t, fn<uint64_t>>
#define DK_FLOAT(name, cost)     \
  constexpr UnaryOp k_##name = { \
      kF, false, static_cast<int8_t>(UnaryF32::name##_), cost, nullptr, loop<double, name##_f64>, nullptr, nullptr};
#define DK_ALL(name, fn)         \
  constexpr UnaryOp k_##name = { \
      kF | kI, false, static_cast<int8_t>(UnaryF32::name##_), 1, nullptr, loop<double, name##_f64>, DK_INTS(fn)};
#define DK_LIBM(name)                                                                                              \
  constexpr UnaryOp k_##name = {kF,      false,  -1, 64, loop_plain<float, ::name##f>, loop_plain<double, ::name>, \
                                nullptr, nullptr};
DK_ALL(abs, int_abs)
DK_ALL(neg, int_neg)
DK_ALL(sign, int_sign)
DK_ALL(square, int_square)
DK_ALL(relu, int_relu)
DK_ALL(clip, int_clip)
DK_FLOAT(floor, 1)
DK_FLOAT(ceil, 1)
DK_FLOAT(round, 1)
DK_FLOAT(trunc, 1)
DK_FLOAT(sqrt, 2)
DK_FLOAT(rsqrt, 2)
DK_FLOAT(reciprocal, 1)
DK_FLOAT(exp, 4)
DK_FLOAT(expm1, 6)
DK_FLOAT(log, 5)
DK_FLOAT(log1p, 8)
DK_FLOAT(tanh, 6)
DK_FLOAT(erf, 7)
DK_FLOAT(relu6, 1)
DK_FLOAT(leaky_relu, 1)
DK_FLOAT(elu, 6)
DK_FLOAT(selu, 6)
DK_FLOAT(sigmoid, 5)
DK_FLOAT(hard_sigmoid, 1)
DK_FLOAT(hard_swish, 1)
DK_FLOAT(silu, 5)
DK_FLOAT(gelu, 8)
DK_FLOAT(gelu_tanh, 7)
DK_FLOAT(sin, 6)
DK_FLOAT(cos, 6)
DK_FLOAT(softplus, 10)
DK_FLOAT(softsign, 2)
DK_FLOAT(mish, 6)
DK_FLOAT(thresholded_relu, 1)
DK_FLOAT(celu, 6)
DK_LIBM(tan)
DK_LIBM(asin)
DK_LIBM(acos)
DK_LIBM(atan)
DK_LIBM(sinh)
DK_LIBM(cosh)
DK_LIBM(asinh)
DK_LIBM(acosh)
DK_LIBM(atanh)
constexpr UnaryOp k_shrink = {
    kF | kI, false, static_cast<int8_t>(UnaryF32::shrink_), 1, nullptr, loop<double, shrink_f64>, nullptr, nullptr};
constexpr UnaryOp k_bitwise_not = {kI, false, -1, 1, nullptr, nullptr, DK_INTS(int_not)};
constexpr UnaryOp k_is_nan = {
    kF, true, -1, 1, loop_test<float, is_nan<float>>, loop_test<double, is_nan<double>>, nullptr, nullptr};
constexpr UnaryOp k_is_inf = {
    kF, true, -1, 1, loop_test<float, is_inf<float>>, loop_test<double, is_inf<double>>, nullptr, nullptr};
// bool has a loop on bytes: s64 stands for it
constexpr UnaryOp k_logical_not = {kB, false, -1, 1, nullptr, nullptr, loop_test<uint8_t, bool_not>, nullptr};
#undef DK_INTS
#undef DK_FLOAT
#undef DK_ALL
#undef DK_LIBM

Status infer_unary(OpContext& c, const UnaryOp& op) {
  const Tensor& x = *c.in(0);
  if (!(kind_of(x.dtype) & op.kinds)) return c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(x.dtype));
  return c.set_out(0, op.tests ? DType::b8 : x.dtype, x.rank, x.dims);
}

Status prepare_unary(OpContext& c, const UnaryOp& op, double a0 = 0, double a1 = 0) {
  UnaryState* s;
  DK_TRY(c.make_state(&s));
  s->kernels = DK_PICK_KERNELS(elementwise);
  s->in = c.in(0)->dtype;
  s->out = c.out(0)->dtype;
  s->wide = op.kinds == kB ? DType::b8 : wide_dtype(s->in);
  if (!op.s64 && !is_float(s->in)) s->wide = DType::f64;  // shrink of integers
  s->result = op.tests ? DType::b8 : s->wide;
  switch (s->wide) {
    case DType::f32: s->loop = op.simd < 0 ? op.f32 : s->kernels->unary[op.simd]; break;
    case DType::f64: s->loop = op.f64; break;
    case DType::u64: s->loop = op.u64; break;
    default: s->loop = op.s64; break;
  }
  s->staged = s->in != s->wide || s->out != s->result;
  s->grain = 32768 / (op.cost * (s->staged || s->wide == DType::f64 ? 4 : 1));
  const double args[] = {a0, a1, 0};
  for (int i = 0; i < 3; ++i) {
    if (s->wide == DType::f32) reinterpret_cast<float*>(s->args)[i] = static_cast<float>(args[i]);
    if (s->wide == DType::f64) reinterpret_cast<double*>(s->args)[i] = args[i];
  }
  return {};
}

void run_with(const OpContext& c, const UnaryState& s, const void* args) {
  const char* x = static_cast<const char*>(c.in(0)->data);
  char* y = static_cast<char*>(c.out(0)->data);
  const size_t size_x = dtype_size(s.in), size_y = dtype_size(s.out);
  c.parallel(c.in(0)->count(), s.grain, [&](int64_t begin, int64_t end, int) {
    const char* from = x + static_cast<size_t>(begin) * size_x;
    char* to = y + static_cast<size_t>(begin) * size_y;
    if (!s.staged) return s.loop(from, to, end - begin, args);
    alignas(64) uint64_t a[kStage];
    for (int64_t i = 0; i < end - begin; i += kStage) {
      const int64_t n = end - begin - i < kStage ? end - begin - i : kStage;
      stage_in(s.kernels, s.in, from + static_cast<size_t>(i) * size_x, s.wide, a, n);
      s.loop(a, a, n, args);  // results are not wider than operands
      stage_out(s.kernels, s.result, a, s.out, to + static_cast<size_t>(i) * size_y, n);
    }
  });
}

Status run_unary(OpContext& c) {
  const UnaryState& s = *c.state<UnaryState>();
  run_with(c, s, s.args);
  return {};
}

template <const UnaryOp& kOp>
Status infer_op(OpContext& c) {
  return infer_unary(c, kOp);
}
template <const UnaryOp& kOp>
Status prepare_op(OpContext& c) {
  return prepare_unary(c, kOp);
}
template <const UnaryOp& kOp, int kFirst, int kSecond>
Status prepare_attrs(OpContext& c) {
  return prepare_unary(c, kOp, c.attr_double(kFirst), kSecond < 0 ? 0 : c.attr_double(kSecond));
}
Status prepare_is_inf(OpContext& c) {
  return prepare_unary(c, k_is_inf, static_cast<double>(c.attr_int(attr::is_inf_::detect_negative)),
                       static_cast<double>(c.attr_int(attr::is_inf_::detect_positive)));
}
Status prepare_gelu(OpContext& c) {
  return prepare_unary(c, c.attr_int(attr::gelu_::approximate) ? k_gelu_tanh : k_gelu);
}

// ---- clip: bounds are inputs, read at run time
Status infer_clip(OpContext& c) {
  DK_TRY(infer_unary(c, k_clip));
  const char* const names[] = {"", "low", "high"};
  for (int i = 1; i <= 2; ++i) {
    const Tensor* t = c.in(i);
    if (!t) continue;
    if (t->dtype != c.in(0)->dtype)
      return c.fail(Code::shape, "%s has another dtype than x; got %s, expected %s", names[i], dtype_name(t->dtype),
                    dtype_name(c.in(0)->dtype));
    if (t->count() != 1) return c.fail(Code::shape, "%s is not a scalar; got shape %s", names[i], ShapeText(*t).text);
  }
  return {};
}

Status run_clip(OpContext& c) {
  const UnaryState& s = *c.state<UnaryState>();
  uint64_t args[3] = {0, 0, 0};
  const size_t size = dtype_size(s.wide);
  for (int i = 0; i < 2; ++i) {
    char* to = reinterpret_cast<char*>(args) + static_cast<size_t>(i) * size;
    if (c.in(i + 1)) {
      stage_in(s.kernels, s.in, c.in(i + 1)->data, s.wide, to, 1);
    } else {
      const double limit = i ? INFINITY : -INFINITY;  // as an integer: the end of its range
      convert(DType::f64, &limit, s.wide, to, 1);
    }
  }
  run_with(c, s, args);
  return {};
}

#define DK_UNARY(name) {Opcode::name##_, infer_op<k_##name>, prepare_op<k_##name>, run_unary, 1}
#define DK_TEST(name) {Opcode::name##_, infer_op<k_##name>, prepare_op<k_##name>, run_unary, 0}
#define DK_ATTR1(name, a) \
  {Opcode::name##_, infer_op<k_##name>, prepare_attrs<k_##name, attr::name##_::a, -1>, run_unary, 1}
#define DK_ATTR2(name, a, b) \
  {Opcode::name##_, infer_op<k_##name>, prepare_attrs<k_##name, attr::name##_::a, attr::name##_::b>, run_unary, 1}
const OpDef kDefs[] = {
    DK_UNARY(abs),
    DK_UNARY(neg),
    DK_UNARY(sign),
    DK_UNARY(floor),
    DK_UNARY(ceil),
    DK_UNARY(round),
    DK_UNARY(trunc),
    DK_UNARY(sqrt),
    DK_UNARY(rsqrt),
    DK_UNARY(reciprocal),
    DK_UNARY(square),
    DK_UNARY(exp),
    DK_UNARY(expm1),
    DK_UNARY(log),
    DK_UNARY(log1p),
    DK_UNARY(sin),
    DK_UNARY(cos),
    DK_UNARY(tan),
    DK_UNARY(asin),
    DK_UNARY(acos),
    DK_UNARY(atan),
    DK_UNARY(sinh),
    DK_UNARY(cosh),
    DK_UNARY(tanh),
    DK_UNARY(asinh),
    DK_UNARY(acosh),
    DK_UNARY(atanh),
    DK_UNARY(erf),
    DK_UNARY(relu),
    DK_UNARY(relu6),
    DK_UNARY(sigmoid),
    DK_UNARY(hard_swish),
    DK_UNARY(softplus),
    DK_UNARY(softsign),
    DK_UNARY(mish),
    DK_UNARY(bitwise_not),
    DK_UNARY(logical_not),
    DK_TEST(is_nan),
    DK_ATTR1(leaky_relu, alpha),
    DK_ATTR1(elu, alpha),
    DK_ATTR1(silu, alpha),
    DK_ATTR1(celu, alpha),
    DK_ATTR1(thresholded_relu, alpha),
    DK_ATTR2(selu, alpha, gamma),
    DK_ATTR2(hard_sigmoid, alpha, beta),
    DK_ATTR2(shrink, lambd, bias),
    {Opcode::is_inf_, infer_op<k_is_inf>, prepare_is_inf, run_unary, 0},
    {Opcode::gelu_, infer_op<k_gelu>, prepare_gelu, run_unary, 1},
    {Opcode::clip_, infer_clip, prepare_op<k_clip>, run_clip, 1},
};
#undef DK_UNARY
#undef DK_TEST
#undef DK_ATTR1
#undef DK_ATTR2

}  // namespace

extern const OpList ops_elementwise_unary;
const OpList ops_elementwise_unary = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
