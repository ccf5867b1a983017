// Ops of two broadcast operands: arithmetic, comparison, logic, bits, prelu.
//
// An op is a loop per wide type (f32 by the SIMD tables; f64, s64, u64 here).  Operands of that very dtype are read in
// place; narrower ones go through blocks of kStage elements on the stack: widened, computed, rounded or wrapped once.
#include <cmath>

#include "ops/broadcast.h"
#include "ops/shape_util.h"
#include "ops/stage.h"

namespace dk {
namespace {

// z may be x or y where their element sizes are equal.
using Loop = BinaryLoop;

struct BinaryState {
  Broadcast broadcast;
  const ElementwiseKernels* kernels;
  Loop loop;
  DType wide;    // what the loop reads
  DType result;  // what the loop writes: wide or b8
  DType in[2];
  DType out;
  bool staged;  // through blocks
  int64_t grain;
};

// ---- scalar functions of one wide type
template <class T>
struct Unsigned;
template <>
struct Unsigned<int64_t> {
  typedef uint64_t type;
};
template <>
struct Unsigned<uint64_t> {
  typedef uint64_t type;
};

constexpr bool is_f64(double) { return true; }
constexpr bool is_f64(int64_t) { return false; }
constexpr bool is_f64(uint64_t) { return false; }

// Wraps for integers, as signed overflow is undefined in C++.
#define DK_WRAP(T, x, op, y) \
  if constexpr (is_f64(T{})) \
    return x op y;           \
  else                       \
    return static_cast<T>(static_cast<uint64_t>(x) op static_cast<uint64_t>(y));

template <class T>
bool minus_one(T x) {
  return T(-1) < 0 && static_cast<uint64_t>(x) == UINT64_MAX;
}

// Truncated quotient; 0 for x / 0.  The lowest number over -1 wraps to itself.
template <class T>
T divide(T x, T y) {
  if constexpr (is_f64(T{}))
    return x / y;
  else {
    if (y == 0) return 0;
    if (minus_one(y)) return static_cast<T>(0 - static_cast<uint64_t>(x));
    return x / y;
  }
}
template <class T>
T c_mod(T x, T y) {
  if constexpr (is_f64(T{}))
    return fmod(x, y);
  else {
    if (y == 0 || minus_one(y)) return 0;
    return x % y;
  }
}
template <class T>
T python_mod(T x, T y) {
  T r = c_mod(x, y);
  if (r != 0 && (r < 0) != (y < 0)) return r + y;
  if constexpr (is_f64(T{})) return r == 0 ? copysign(r, y) : r;
  return r;
}
template <class T>
T floor_divide(T x, T y) {
  if constexpr (is_f64(T{}))
    return floor(x / y);
  else {
    T q = divide(x, y);
    return y != 0 && x % (minus_one(y) ? 1 : y) != 0 && (x < 0) != (y < 0) ? q - 1 : q;
  }
}
template <class T>
T power(T x, T y) {
  if constexpr (is_f64(T{}))
    return pow(x, y);
  else {
    if (T(-1) < 0 && y < 0) return x == 1 ? 1 : minus_one(x) ? (y & 1 ? -1 : 1) : 0;
    uint64_t r = 1, s = static_cast<uint64_t>(x);
    for (uint64_t left = static_cast<uint64_t>(y); left; left >>= 1, s *= s)
      if (left & 1) r *= s;
    return static_cast<T>(r);
  }
}

#define DK_SCALAR(name, ...)             \
  struct name {                          \
    template <class T>                   \
    static inline auto apply(T x, T y) { \
      __VA_ARGS__                        \
    }                                    \
  };
DK_SCALAR(Add, DK_WRAP(T, x, +, y))
DK_SCALAR(Sub, DK_WRAP(T, x, -, y))
DK_SCALAR(Mul, DK_WRAP(T, x, *, y))
DK_SCALAR(Div, return divide(x, y);)
DK_SCALAR(Pow, return power(x, y);)
DK_SCALAR(ModC, return c_mod(x, y);)
DK_SCALAR(ModPython, return python_mod(x, y);)
DK_SCALAR(Minimum, return x < y || x != x ? x : y;)
DK_SCALAR(Maximum, return x > y || x != x ? x : y;)
DK_SCALAR(Atan2, return T(atan2(static_cast<double>(x), static_cast<double>(y)));)
DK_SCALAR(FloorDiv, return floor_divide(x, y);)
DK_SCALAR(SquaredDifference, auto d = Sub::apply(x, y); return Mul::apply(d, d);)
DK_SCALAR(Prelu, return x < 0 ? Mul::apply(x, y) : x;)
DK_SCALAR(Equal, return static_cast<uint8_t>(x == y);)
DK_SCALAR(NotEqual, return static_cast<uint8_t>(x != y);)
DK_SCALAR(Less, return static_cast<uint8_t>(x < y);)
DK_SCALAR(LessEqual, return static_cast<uint8_t>(x <= y);)
DK_SCALAR(Greater, return static_cast<uint8_t>(x > y);)
DK_SCALAR(GreaterEqual, return static_cast<uint8_t>(x >= y);)
DK_SCALAR(And, return static_cast<T>(x & y);)
DK_SCALAR(Or, return static_cast<T>(x | y);)
DK_SCALAR(Xor, return static_cast<T>(x ^ y);)
#undef DK_SCALAR
#undef DK_WRAP

// Narrower operands arrive extended to 64 bits: bits shifted out at the top are cut off when the result is stored.
struct ShiftLeft {
  template <class T>
  static T apply(T x, T y) {
    return static_cast<uint64_t>(y) > 63 ? 0 : static_cast<T>(static_cast<uint64_t>(x) << y);
  }
};
struct ShiftRight {
  template <class T>
  static T apply(T x, T y) {
    return static_cast<uint64_t>(y) > 63 ? (x < 0 ? static_cast<T>(-1) : 0) : static_cast<T>(x >> y);
  }
};

template <class Fn, class T>
void loop(const void* px, const void* py, void* pz, int64_t n, int step_x, int step_y) {
  const T* x = static_cast<const T*>(px);
  const T* y = static_cast<const T*>(py);
  auto* z = static_cast<decltype(Fn::apply(T{}, T{}))*>(pz);
  for (int64_t i = 0; i < n; ++i) z[i] = Fn::apply(x[i * step_x], y[i * step_y]);
}

// Operations of which float has its own scalar form and the SIMD tables have none.
template <float (*kFn)(float, float)>
void loop_f32(const void* px, const void* py, void* pz, int64_t n, int step_x, int step_y) {
  const float* x = static_cast<const float*>(px);
  const float* y = static_cast<const float*>(py);
  float* z = static_cast<float*>(pz);
  for (int64_t i = 0; i < n; ++i) z[i] = kFn(x[i * step_x], y[i * step_y]);
}
float f32_pow(float x, float y) { return y == 2.0f ? x * x : powf(x, y); }
// One exponent for all is mostly a small number: squares, cubes, roots.
void loop_pow(const void* px, const void* py, void* pz, int64_t n, int step_x, int step_y) {
  const float* x = static_cast<const float*>(px);
  float* z = static_cast<float*>(pz);
  const float y = *static_cast<const float*>(py);
  if (step_y == 0 && y == 2.0f)
    for (int64_t i = 0; i < n; ++i) z[i] = x[i * step_x] * x[i * step_x];
  else if (step_y == 0 && y == 3.0f)
    for (int64_t i = 0; i < n; ++i) z[i] = x[i * step_x] * x[i * step_x] * x[i * step_x];
  else if (step_y == 0 && y == -1.0f)
    for (int64_t i = 0; i < n; ++i) z[i] = 1.0f / x[i * step_x];
  else if (step_y == 0 && y == 0.5f)  // pow gives +0 and +inf where sqrt gives -0 and NaN
    for (int64_t i = 0; i < n; ++i)
      z[i] = sqrtf(fabsf(x[i * step_x])) + (x[i * step_x] < 0 && x[i * step_x] != -INFINITY ? NAN : 0);
  else
    loop_f32<f32_pow>(px, py, pz, n, step_x, step_y);
}
float f32_fmod(float x, float y) { return fmodf(x, y); }
float f32_python_mod(float x, float y) {
  float r = fmodf(x, y);
  if (r == 0) return copysignf(r, y);
  return (r < 0) != (y < 0) ? r + y : r;
}
float f32_atan2(float x, float y) { return atan2f(x, y); }
float f32_floor_div(float x, float y) { return floorf(x / y); }

template <bool kOr, bool kXor>
void loop_logic(const void* px, const void* py, void* pz, int64_t n, int step_x, int step_y) {
  const uint8_t* x = static_cast<const uint8_t*>(px);
  const uint8_t* y = static_cast<const uint8_t*>(py);
  uint8_t* z = static_cast<uint8_t*>(pz);
  for (int64_t i = 0; i < n; ++i) {
    const bool a = x[i * step_x] != 0, b = y[i * step_y] != 0;
    z[i] = kXor ? a != b : kOr ? (a | b) : (a & b);
  }
}

// ---- the table of ops
struct BinaryOp {
  uint8_t kinds;
  bool compares;
  int8_t simd;   // index in the binary or compare table; -1: f32 below
  uint8_t cost;  // relative time per element, 1 for an addition
  Loop f32, f64, s64, u64;
};

#define DK_INTS(Fn) loop<Fn, int64_t>, loop<Fn, uint64_t>
#define DK_SIMD(name) static_cast<int8_t>(BinaryF32::name##_), 1, nullptr
#define DK_COMPARE(name) static_cast<int8_t>(CompareF32::name##_), 1, nullptr
constexpr BinaryOp kAdd = {kF | kI, false, DK_SIMD(add), loop<Add, double>, DK_INTS(Add)};
constexpr BinaryOp kSub = {kF | kI, false, DK_SIMD(sub), loop<Sub, double>, DK_INTS(Sub)};
constexpr BinaryOp kMul = {kF | kI, false, DK_SIMD(mul), loop<Mul, double>, DK_INTS(Mul)};
constexpr BinaryOp kDiv = {kF | kI, false, DK_SIMD(div), loop<Div, double>, DK_INTS(Div)};
constexpr BinaryOp kPow = {kF | kI, false, -1, 30, loop_pow, loop<Pow, double>, DK_INTS(Pow)};
constexpr BinaryOp kModC = {kF | kI, false, -1, 20, loop_f32<f32_fmod>, loop<ModC, double>, DK_INTS(ModC)};
constexpr BinaryOp kModPython = {kF | kI,           false, -1, 20, loop_f32<f32_python_mod>, loop<ModPython, double>,
                                 DK_INTS(ModPython)};
constexpr BinaryOp kMinimum = {kF | kI, false, DK_SIMD(minimum), loop<Minimum, double>, DK_INTS(Minimum)};
constexpr BinaryOp kMaximum = {kF | kI, false, DK_SIMD(maximum), loop<Maximum, double>, DK_INTS(Maximum)};
constexpr BinaryOp kAtan2 = {kF, false, -1, 30, loop_f32<f32_atan2>, loop<Atan2, double>, nullptr, nullptr};
constexpr BinaryOp kFloorDiv = {kF | kI,          false, -1, 4, loop_f32<f32_floor_div>, loop<FloorDiv, double>,
                                DK_INTS(FloorDiv)};
constexpr BinaryOp kSquaredDifference = {kF | kI, false, DK_SIMD(squared_difference), loop<SquaredDifference, double>,
                                         DK_INTS(SquaredDifference)};
constexpr BinaryOp kPrelu = {kF | kI, false, DK_SIMD(prelu), loop<Prelu, double>, DK_INTS(Prelu)};
constexpr BinaryOp kEqual = {kF | kI | kB, true, DK_COMPARE(equal), loop<Equal, double>, DK_INTS(Equal)};
constexpr BinaryOp kNotEqual = {kF | kI | kB, true, DK_COMPARE(not_equal), loop<NotEqual, double>, DK_INTS(NotEqual)};
constexpr BinaryOp kLess = {kF | kI, true, DK_COMPARE(less), loop<Less, double>, DK_INTS(Less)};
constexpr BinaryOp kLessEqual = {kF | kI, true, DK_COMPARE(less_equal), loop<LessEqual, double>, DK_INTS(LessEqual)};
constexpr BinaryOp kGreater = {kF | kI, true, DK_COMPARE(greater), loop<Greater, double>, DK_INTS(Greater)};
constexpr BinaryOp kGreaterEqual = {kF | kI, true, DK_COMPARE(greater_equal), loop<GreaterEqual, double>,
                                    DK_INTS(GreaterEqual)};
constexpr BinaryOp kBitwiseAnd = {kI, false, -1, 1, nullptr, nullptr, DK_INTS(And)};
constexpr BinaryOp kBitwiseOr = {kI, false, -1, 1, nullptr, nullptr, DK_INTS(Or)};
constexpr BinaryOp kBitwiseXor = {kI, false, -1, 1, nullptr, nullptr, DK_INTS(Xor)};
constexpr BinaryOp kShiftLeft = {kI, false, -1, 1, nullptr, nullptr, DK_INTS(ShiftLeft)};
constexpr BinaryOp kShiftRight = {kI, false, -1, 1, nullptr, nullptr, DK_INTS(ShiftRight)};
// bool has loops on bytes: s64 stands for them
constexpr BinaryOp kLogicalAnd = {kB, false, -1, 1, nullptr, nullptr, loop_logic<false, false>, nullptr};
constexpr BinaryOp kLogicalOr = {kB, false, -1, 1, nullptr, nullptr, loop_logic<true, false>, nullptr};
constexpr BinaryOp kLogicalXor = {kB, false, -1, 1, nullptr, nullptr, loop_logic<false, true>, nullptr};
#undef DK_INTS
#undef DK_SIMD
#undef DK_COMPARE

// ---- infer
Status infer_binary(OpContext& c, const BinaryOp& op, bool any_second) {
  const Tensor* in[2] = {c.in(0), c.in(1)};
  if (!any_second) DK_TRY(same_dtype(c, 0, 1));
  for (const Tensor* t : in)
    if (!(kind_of(t->dtype) & op.kinds))
      return c.fail(Code::unsupported, "no kernel for dtype %s", dtype_name(t->dtype));
  int64_t dims[kMaxRank];
  int rank;
  DK_TRY(broadcast_shapes(c, in, 2, dims, &rank));
  return c.set_out(0, op.compares ? DType::b8 : in[0]->dtype, rank, dims);
}

// ---- prepare
Status prepare_binary(OpContext& c, const BinaryOp& op) {
  BinaryState* s;
  DK_TRY(c.make_state(&s));
  const Tensor* in[2] = {c.in(0), c.in(1)};
  const Tensor& out = *c.out(0);
  plan_broadcast(&s->broadcast, in, 2, out);
  s->in[0] = in[0]->dtype;
  s->in[1] = in[1]->dtype;
  s->out = out.dtype;
  const bool logic = op.kinds == kB;
  s->wide = logic ? DType::b8 : wide_dtype(in[0]->dtype);
  if (!logic && !is_float(in[0]->dtype) && is_float(in[1]->dtype)) s->wide = DType::f64;  // pow(int, float)
  s->result = op.compares ? DType::b8 : s->wide;
  const ElementwiseKernels* k = s->kernels = DK_PICK_KERNELS(elementwise);
  switch (s->wide) {
    case DType::f32: s->loop = op.simd < 0 ? op.f32 : op.compares ? k->compare[op.simd] : k->binary[op.simd]; break;
    case DType::f64: s->loop = op.f64; break;
    case DType::u64: s->loop = op.u64; break;
    default: s->loop = op.s64; break;
  }
  s->staged = s->in[0] != s->wide || s->in[1] != s->wide || s->out != s->result;
  s->grain = 32768 / (op.cost * (s->staged ? 4 : 1));
  return {};
}

// ---- run
void run_staged(const BinaryState& s, const Part& p, char* out) {
  alignas(64) uint64_t a[kStage], b[kStage], z[kStage];
  const size_t size_x = dtype_size(s.in[0]), size_y = dtype_size(s.in[1]), size_z = dtype_size(s.out);
  for (int64_t i = 0; i < p.n; i += kStage) {
    const int64_t n = p.n - i < kStage ? p.n - i : kStage;
    const char* x = static_cast<const char*>(p.in[0]) + static_cast<size_t>(i * p.step[0]) * size_x;
    const char* y = static_cast<const char*>(p.in[1]) + static_cast<size_t>(i * p.step[1]) * size_y;
    if (i == 0 || p.step[0]) stage_in(s.kernels, s.in[0], x, s.wide, a, p.step[0] ? n : 1);
    if (i == 0 || p.step[1]) stage_in(s.kernels, s.in[1], y, s.wide, b, p.step[1] ? n : 1);
    s.loop(a, b, z, n, p.step[0], p.step[1]);
    stage_out(s.kernels, s.result, z, s.out, out + static_cast<size_t>(i) * size_z, n);
  }
}

Status run_binary(OpContext& c) {
  const BinaryState& s = *c.state<BinaryState>();
  const void* data[2] = {c.in(0)->data, c.in(1)->data};
  char* out = static_cast<char*>(c.out(0)->data);
  const size_t size = dtype_size(s.out);
  c.parallel(s.broadcast.count, s.grain, [&](int64_t begin, int64_t end, int) {
    each_part(s.broadcast, data, begin, end, [&](const Part& p) {
      char* z = out + static_cast<size_t>(p.at) * size;
      if (s.staged)
        run_staged(s, p, z);
      else
        s.loop(p.in[0], p.in[1], z, p.n, p.step[0], p.step[1]);
    });
  });
  return {};
}

template <const BinaryOp& kOp>
Status infer_op(OpContext& c) {
  return infer_binary(c, kOp, false);
}
template <const BinaryOp& kOp>
Status prepare_op(OpContext& c) {
  return prepare_binary(c, kOp);
}
Status infer_pow(OpContext& c) { return infer_binary(c, kPow, true); }
Status prepare_mod(OpContext& c) { return prepare_binary(c, c.attr_int(attr::mod_::fmod) ? kModC : kModPython); }

// prelu's result has x's shape: the slope must broadcast to it, not the other way round.
Status infer_prelu(OpContext& c) {
  DK_TRY(infer_binary(c, kPrelu, false));
  if (!same_dims(*c.in(0), *c.out(0))) {
    const ShapeText x(*c.in(0)), slope(*c.in(1));
    return c.fail(Code::shape, "slope does not broadcast to x; got %s for x of %s", slope.text, x.text);
  }
  return {};
}

#define DK_BINARY(name, table, inplace) {Opcode::name##_, infer_op<table>, prepare_op<table>, run_binary, inplace}
const OpDef kDefs[] = {
    DK_BINARY(add, kAdd, 3),
    DK_BINARY(sub, kSub, 3),
    DK_BINARY(mul, kMul, 3),
    DK_BINARY(div, kDiv, 3),
    {Opcode::pow_, infer_pow, prepare_op<kPow>, run_binary, 1},
    {Opcode::mod_, infer_op<kModC>, prepare_mod, run_binary, 3},
    DK_BINARY(minimum, kMinimum, 3),
    DK_BINARY(maximum, kMaximum, 3),
    DK_BINARY(atan2, kAtan2, 3),
    DK_BINARY(floor_div, kFloorDiv, 3),
    DK_BINARY(squared_difference, kSquaredDifference, 3),
    {Opcode::prelu_, infer_prelu, prepare_op<kPrelu>, run_binary, 3},
    DK_BINARY(equal, kEqual, 0),
    DK_BINARY(not_equal, kNotEqual, 0),
    DK_BINARY(less, kLess, 0),
    DK_BINARY(less_equal, kLessEqual, 0),
    DK_BINARY(greater, kGreater, 0),
    DK_BINARY(greater_equal, kGreaterEqual, 0),
    DK_BINARY(logical_and, kLogicalAnd, 3),
    DK_BINARY(logical_or, kLogicalOr, 3),
    DK_BINARY(logical_xor, kLogicalXor, 3),
    DK_BINARY(bitwise_and, kBitwiseAnd, 3),
    DK_BINARY(bitwise_or, kBitwiseOr, 3),
    DK_BINARY(bitwise_xor, kBitwiseXor, 3),
    DK_BINARY(shift_left, kShiftLeft, 3),
    DK_BINARY(shift_right, kShiftRight, 3),
};
#undef DK_BINARY

}  // namespace

extern const OpList ops_elementwise_binary;
const OpList ops_elementwise_binary = {kDefs, sizeof kDefs / sizeof *kDefs};

}  // namespace dk
