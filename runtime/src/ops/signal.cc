// dft, stft, mel_weights.  float32 (and narrower) transforms in float32, float64 in float64.
#include <cmath>

#include "base/convert.h"
#include "base/mem.h"
#include "kernels/fft/fft.h"
#include "ops/index_util.h"

namespace dk {
extern const OpList ops_signal;

namespace {

size_t align64(size_t n) { return (n + 63) & ~size_t(63); }

// One whole number from an int64 or int32 input with one element.
Status read_one(const OpContext& c, int input, const char* what, int64_t* to) {
  int n = 0;
  DK_TRY(c.read_ints(input, to, 1, &n));
  if (n != 1) return c.fail(Code::shape, "%s must be one number", what);
  return Code::ok;
}

// Tables and work areas of one length, in the op's state and scratch.
struct Transform {
  int64_t n;  // of the transform
  bool real;  // by fft_real
  bool wide;  // float64
  FftPlan<float> plan32;
  FftPlan<double> plan64;
  const void* roots;  // for fft_real
  // scratch of a lane: the line, then work
  size_t line_bytes, lane_bytes;
};

template <class W>
FftPlan<W>& plan_of(Transform& t) {
  if constexpr (sizeof(W) == 4)
    return t.plan32;
  else
    return t.plan64;
}
template <class W>
const FftPlan<W>& plan_of(const Transform& t) {
  return plan_of<W>(const_cast<Transform&>(t));
}

template <class W>
Status prepare_as(OpContext& c, Transform* t, size_t head, char** state) {
  const int64_t half = t->real ? t->n / 2 : t->n;
  const size_t tables = align64(fft_plan_bytes<W>(half));
  const size_t roots = t->real ? align64(static_cast<size_t>(half / 2 + 1) * 2 * sizeof(W)) : 0;
  void* p;
  DK_TRY(c.make_state(head + tables + roots, &p));
  *state = static_cast<char*>(p);
  TempMemory work;
  DK_TRY(work.get(c, fft_work_bytes<W>(half)));
  fft_plan<W>(&plan_of<W>(*t), half, *state + head, work.p);
  if (t->real) {
    W* r = reinterpret_cast<W*>(*state + head + tables);
    fft_roots<W>(t->n, half / 2 + 1, r);
    t->roots = r;
  }
  t->line_bytes = align64(static_cast<size_t>(t->n + 2) * 2 * sizeof(W));
  t->lane_bytes = t->line_bytes + align64(fft_work_bytes<W>(half));
  return c.need_scratch(t->lane_bytes * static_cast<size_t>(c.threads()));
}

Status prepare_transform(OpContext& c, Transform* t, size_t head, char** state) {
  t->wide = c.in(0)->dtype == DType::f64;
  return t->wide ? prepare_as<double>(c, t, head, state) : prepare_as<float>(c, t, head, state);
}

// `count` numbers of x from element `at` on, `step` elements apart, to every `to_step`-th place of `to`.
template <class W>
void load_line(const Tensor& x, int64_t at, int64_t step, int64_t count, W* to, int64_t to_step) {
  const size_t size = dtype_size(x.dtype);
  const char* p = x.as<char>() + static_cast<size_t>(at) * size;
  const DType own = sizeof(W) == 4 ? DType::f32 : DType::f64;
  for (int64_t i = 0; i < count; ++i, p += static_cast<size_t>(step) * size) {
    if (x.dtype == own)
      memcpy(to + i * to_step, p, sizeof(W));
    else
      convert(x.dtype, p, own, to + i * to_step, 1);
  }
}

template <class W>
void store_number(const Tensor& y, int64_t at, W v) {
  char* p = static_cast<char*>(y.data) + static_cast<size_t>(at) * dtype_size(y.dtype);
  const DType own = sizeof(W) == 4 ? DType::f32 : DType::f64;
  if (y.dtype == own)
    memcpy(p, &v, sizeof v);
  else
    convert(own, &v, y.dtype, p, 1);
}

// The first `bins` bins of the transform of `line`: n real numbers (real) or pairs.
template <class W>
void forward(const Transform& t, W* line, int64_t bins, void* work) {
  if (!t.real) return fft(plan_of<W>(t), line, false, work);
  fft_real(plan_of<W>(t), t.n, static_cast<const W*>(t.roots), line, work);
  for (int64_t k = t.n / 2 + 1; k < bins; ++k) {
    line[2 * k] = line[2 * (t.n - k)];
    line[2 * k + 1] = -line[2 * (t.n - k) + 1];
  }
}

// ---- dft

namespace D = attr::dft_;

struct DftShape {
  int axis;
  int64_t n;  // length of the transform
  bool inverse, onesided;
  int64_t bins() const { return onesided && !inverse ? n / 2 + 1 : n; }
};

Status read_dft(const OpContext& c, DftShape* s) {
  const Tensor& x = *c.in(0);
  s->inverse = c.attr_int(D::inverse) != 0;
  s->onesided = c.attr_int(D::onesided) != 0;
  if (!is_float(x.dtype)) return c.fail(Code::shape, "x must be floats; got %s", dtype_name(x.dtype));
  if (x.rank < 2) return c.fail(Code::shape, "x must have rank 2 or more; got %d", x.rank);
  const int64_t parts = x.dims[x.rank - 1];
  if (parts != 1 && parts != 2)
    return c.fail(Code::shape, "the last dim of x is %lld, expected 1 (real) or 2 (complex)",
                  static_cast<long long>(parts));
  if (s->onesided && !s->inverse && parts == 2) return c.fail(Code::shape, "onesided needs a real signal");
  int64_t axis = -2;
  if (c.in(2)) DK_TRY(read_one(c, 2, "axis", &axis));
  DK_TRY(axis_of(c, axis, x.rank, &s->axis));
  if (s->axis == x.rank - 1) return c.fail(Code::shape, "axis is the one of real and imaginary parts");
  s->n = x.dims[s->axis];
  if (s->inverse && s->onesided) s->n = 2 * (s->n - 1);
  if (c.in(1)) DK_TRY(read_one(c, 1, "length", &s->n));
  if (s->n < 1 || s->n > kLongestFft)
    return c.fail(Code::shape, "the length is %lld, expected 1 or more", static_cast<long long>(s->n));
  return Code::ok;
}

Status dft_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  DftShape s;
  DK_TRY(read_dft(c, &s));
  int64_t dims[kMaxRank];
  memcpy(dims, x.dims, sizeof dims);
  dims[s.axis] = s.bins();
  dims[x.rank - 1] = s.inverse && s.onesided ? 1 : 2;
  return c.set_out(0, x.dtype, x.rank, dims);
}

Status dft_prepare(OpContext& c) {
  DftShape s;
  DK_TRY(read_dft(c, &s));
  Transform t{};
  t.n = s.n;
  t.real = !s.inverse && c.in(0)->dims[c.in(0)->rank - 1] == 1 && s.n % 2 == 0;
  char* state;
  DK_TRY(prepare_transform(c, &t, align64(sizeof t), &state));
  memcpy(static_cast<void*>(state), &t, sizeof t);
  return Code::ok;
}

template <class W>
void run_dft(const OpContext& c, const Transform& t, const DftShape& s) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  const int64_t parts = x.dims[x.rank - 1], inner = product(x, s.axis + 1, x.rank - 1), size = x.dims[s.axis];
  const int64_t bins = s.bins(), out_parts = y.dims[y.rank - 1];
  const bool half = s.inverse && s.onesided;  // the input holds the first half of a symmetric spectrum
  const int64_t most = half ? s.n / 2 + 1 : s.n, given = size < most ? size : most;
  c.parallel(product(x, 0, s.axis) * inner, 4096 / s.n + 1, [&](int64_t begin, int64_t end, int lane) {
    char* mine = static_cast<char*>(c.scratch()) + static_cast<size_t>(lane) * t.lane_bytes;
    W* line = reinterpret_cast<W*>(mine);
    void* work = mine + t.line_bytes;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t o = r / inner, i = r % inner;
      const int64_t step = t.real ? 1 : 2;
      memset(static_cast<void*>(line), 0, t.line_bytes);
      for (int64_t part = 0; part < parts; ++part)
        load_line(x, (o * size * inner + i) * parts + part, inner * parts, given, line + part, step);
      if (half) {
        line[1] = 0;
        if (s.n % 2 == 0) line[s.n + 1] = 0;
        for (int64_t k = 1; k < s.n - k; ++k) {
          line[2 * (s.n - k)] = line[2 * k];
          line[2 * (s.n - k) + 1] = -line[2 * k + 1];
        }
      }
      if (s.inverse)
        fft(plan_of<W>(t), line, true, work);
      else
        forward(t, line, bins, work);
      const W scale = s.inverse ? static_cast<W>(1.0 / static_cast<double>(s.n)) : W(1);
      for (int64_t k = 0; k < bins; ++k)
        for (int64_t part = 0; part < out_parts; ++part)
          store_number(y, ((o * bins + k) * inner + i) * out_parts + part, line[2 * k + part] * scale);
    }
  });
}

Status dft_run(OpContext& c) {
  const Transform& t = *c.state<Transform>();
  if (c.out(0)->count() == 0) return Code::ok;
  DftShape s;
  DK_TRY(read_dft(c, &s));
  if (t.wide)
    run_dft<double>(c, t, s);
  else
    run_dft<float>(c, t, s);
  return Code::ok;
}

// ---- stft

struct StftShape {
  int64_t step, frame, frames, size;  // size: samples of a frame that the window covers
  bool onesided;
  int64_t bins() const { return onesided ? frame / 2 + 1 : frame; }
};

Status read_stft(const OpContext& c, StftShape* s) {
  const Tensor& x = *c.in(0);
  if (!is_float(x.dtype)) return c.fail(Code::shape, "x must be floats; got %s", dtype_name(x.dtype));
  if (x.rank != 3 || (x.dims[2] != 1 && x.dims[2] != 2))
    return c.fail(Code::shape, "x must be [batch, samples, 1 or 2]");
  s->onesided = c.attr_int(attr::stft_::onesided) != 0;
  if (s->onesided && x.dims[2] == 2) return c.fail(Code::shape, "onesided needs a real signal");
  if (c.in(2)) {
    DK_TRY(same_dtype(c, 0, 2));
    if (c.in(2)->rank != 1) return c.fail(Code::shape, "window must be a vector; got rank %d", c.in(2)->rank);
  }
  DK_TRY(read_one(c, 1, "step", &s->step));
  if (c.in(3))
    DK_TRY(read_one(c, 3, "frame_length", &s->frame));
  else if (c.in(2))
    s->frame = c.in(2)->dims[0];
  else
    return c.fail(Code::shape, "neither window nor frame_length is given");
  if (s->step < 1) return c.fail(Code::shape, "step is %lld, expected 1 or more", static_cast<long long>(s->step));
  if (s->frame < 1 || s->frame > x.dims[1])
    return c.fail(Code::shape, "a frame has %lld samples, expected 1 to %lld (the signal)",
                  static_cast<long long>(s->frame), static_cast<long long>(x.dims[1]));
  s->frames = (x.dims[1] - s->frame) / s->step + 1;
  s->size = c.in(2) && c.in(2)->dims[0] < s->frame ? c.in(2)->dims[0] : s->frame;
  return Code::ok;
}

Status stft_infer(OpContext& c) {
  StftShape s;
  DK_TRY(read_stft(c, &s));
  const int64_t dims[4] = {c.in(0)->dims[0], s.frames, s.bins(), 2};
  return c.set_out(0, c.in(0)->dtype, 4, dims);
}

Status stft_prepare(OpContext& c) {
  StftShape s;
  DK_TRY(read_stft(c, &s));
  Transform t{};
  t.n = s.frame;
  t.real = c.in(0)->dims[2] == 1 && s.frame % 2 == 0;
  char* state;
  DK_TRY(prepare_transform(c, &t, align64(sizeof t), &state));
  memcpy(static_cast<void*>(state), &t, sizeof t);
  return Code::ok;
}

template <class W>
void run_stft(const OpContext& c, const Transform& t, const StftShape& s) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  const int64_t parts = x.dims[2], bins = s.bins(), step = t.real ? 1 : 2;
  c.parallel(x.dims[0] * s.frames, 4096 / s.frame + 1, [&](int64_t begin, int64_t end, int lane) {
    char* mine = static_cast<char*>(c.scratch()) + static_cast<size_t>(lane) * t.lane_bytes;
    W* line = reinterpret_cast<W*>(mine);
    void* work = mine + t.line_bytes;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t first = r / s.frames * x.dims[1] + r % s.frames * s.step;
      memset(static_cast<void*>(line), 0, t.line_bytes);
      for (int64_t part = 0; part < parts; ++part) load_line(x, first * parts + part, parts, s.size, line + part, step);
      for (int64_t i = 0; c.in(2) && i < s.size; ++i) {
        W w;
        load_line(*c.in(2), i, 1, 1, &w, 1);
        for (int64_t part = 0; part < parts; ++part) line[i * step + part] *= w;
      }
      forward(t, line, bins, work);
      for (int64_t k = 0; k < 2 * bins; ++k) store_number(y, r * bins * 2 + k, line[k]);
    }
  });
}

Status stft_run(OpContext& c) {
  const Transform& t = *c.state<Transform>();
  if (c.out(0)->count() == 0) return Code::ok;
  StftShape s;
  DK_TRY(read_stft(c, &s));
  if (t.wide)
    run_stft<double>(c, t, s);
  else
    run_stft<float>(c, t, s);
  return Code::ok;
}

// ---- mel_weights

Status read_number(const OpContext& c, int input, const char* what, double* to) {
  const Tensor& t = *c.in(input);
  if (t.count() != 1 || t.dtype == DType::b8) return c.fail(Code::shape, "%s must be one number", what);
  const void* v = c.value(input);
  if (!v) return c.need_value(input);
  convert(t.dtype, v, DType::f64, to, 1);
  return Code::ok;
}

Status read_mel(const OpContext& c, int64_t* bins, int64_t* length) {
  DK_TRY(read_one(c, 0, "bins", bins));
  DK_TRY(read_one(c, 1, "dft_length", length));
  if (*bins < 0 || *bins > INT32_MAX || *length < 0)
    return c.fail(Code::shape, "bins is %lld, dft_length %lld; expected 0 or more", static_cast<long long>(*bins),
                  static_cast<long long>(*length));
  return Code::ok;
}

Status mel_weights_infer(OpContext& c) {
  int64_t bins, length;
  const DType t = static_cast<DType>(c.attr_int(attr::mel_weights_::dtype));
  if (dtype_size(t) == 0) return c.fail(Code::shape, "dtype is not set");
  DK_TRY(read_mel(c, &bins, &length));
  const int64_t dims[2] = {length / 2 + 1, bins};
  return c.set_out(0, t, 2, dims);
}

Status mel_weights_run(OpContext& c) {
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  int64_t bins, length;
  double rate, hz[2];
  DK_TRY(read_mel(c, &bins, &length));
  DK_TRY(read_number(c, 2, "sample_rate", &rate));
  DK_TRY(read_number(c, 3, "low_hz", &hz[0]));
  DK_TRY(read_number(c, 4, "high_hz", &hz[1]));
  const int64_t rows = y.dims[0];
  const double low = 2595 * std::log10(1 + hz[0] / 700), high = 2595 * std::log10(1 + hz[1] / 700);
  const double step = (high - low) / static_cast<double>(bins + 2);
  // The spectrogram bin of corner i.
  auto corner = [&](int64_t i) {
    const double mel = low + static_cast<double>(i) * step;
    return std::floor(static_cast<double>(length + 1) * 700 * (std::pow(10, mel / 2595) - 1) / rate);
  };
  memset(y.data, 0, y.bytes());
  const size_t size = dtype_size(y.dtype);
  for (int64_t i = 0; i < bins; ++i) {
    double at[3];
    for (int k = 0; k < 3; ++k) {
      at[k] = corner(i + k);
      if (!(at[k] >= 0 && at[k] <= static_cast<double>(rows - (k < 2))))
        return c.fail(Code::shape, "filter %lld reaches spectrogram bin %g; there are %lld", static_cast<long long>(i),
                      at[k], static_cast<long long>(rows));
    }
    const auto left = static_cast<int64_t>(at[0]), middle = static_cast<int64_t>(at[1]),
               right = static_cast<int64_t>(at[2]);
    auto put = [&](int64_t row, double v) {
      convert(DType::f64, &v, y.dtype, y.as<char>() + static_cast<size_t>(row * bins + i) * size, 1);
    };
    if (middle == left) put(middle, 1);
    for (int64_t k = left; middle > left && k <= middle; ++k)
      put(k, static_cast<double>(k - left) / static_cast<double>(middle - left));
    for (int64_t k = middle; k < right; ++k)
      put(k, static_cast<double>(right - k) / static_cast<double>(right - middle));
  }
  return Code::ok;
}

const OpDef defs[] = {
    {Opcode::dft_, dft_infer, dft_prepare, dft_run},
    {Opcode::stft_, stft_infer, stft_prepare, stft_run},
    {Opcode::mel_weights_, mel_weights_infer, nullptr, mel_weights_run},
};

}  // namespace

const OpList ops_signal = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
