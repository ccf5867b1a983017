// random_uniform, keyed_uniform, random_normal, bernoulli, multinomial: Philox 4x32-10 (Salmon et al. 2011),
// counter-based, so any thread can make any block.  Which words make which element, and in which precision, is fixed by
// the passports (deploykit/ops/random.py): the numbers are the same on every platform.
#include <cmath>

#include "base/convert.h"
#include "ops/shape_util.h"

namespace dk {
extern const OpList ops_random;

namespace {

// Four random words: block b of a run.
struct Generator {
  uint64_t key = 0, run = 0;

  void block(uint64_t b, uint32_t* w) const {
    uint32_t c0 = static_cast<uint32_t>(b), c1 = static_cast<uint32_t>(b >> 32);
    uint32_t c2 = static_cast<uint32_t>(run), c3 = static_cast<uint32_t>(run >> 32);
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = static_cast<uint64_t>(c0) * 0xD2511F53u, p1 = static_cast<uint64_t>(c2) * 0xCD9E8D57u;
      c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c1 = static_cast<uint32_t>(p1);
      c3 = static_cast<uint32_t>(p0);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    w[0] = c0;
    w[1] = c1;
    w[2] = c2;
    w[3] = c3;
  }
};

// The next run of this node: key and number as the passports say.
template <class Context>
Generator next_run(const Context& c, int seed_attr) {
  Generator g;
  const uint64_t seed = static_cast<uint64_t>(c.attr_int(seed_attr));
  c.random_run(seed, &g.key, &g.run);
  return g;
}

// The upper 24 bits of a word as a number in [0, 1).
inline double unit(uint32_t w) { return static_cast<double>(w >> 8) * 0x1p-24; }

// Elements of so many blocks are made at a time, so that conversions go over more than a few numbers.
constexpr int kBlocks = 64, kMost = 4 * kBlocks;

// n numbers in [0, 1) of words, each of as many bits as its dtype holds (float64 takes two words).
void fractions(DType t, const uint32_t* w, int n, double* d) {
  if (t == DType::f64)
    for (int i = 0; i < n; ++i)
      d[i] = static_cast<double>((static_cast<uint64_t>(w[2 * i]) << 32 | w[2 * i + 1]) >> 11) * 0x1p-53;
  else if (t == DType::f16)
    for (int i = 0; i < n; ++i) d[i] = static_cast<double>(w[i] >> 21) * 0x1p-11;
  else if (t == DType::bf16)
    for (int i = 0; i < n; ++i) d[i] = static_cast<double>(w[i] >> 24) * 0x1p-8;
  else
    for (int i = 0; i < n; ++i) d[i] = unit(w[i]);
}

// Calls f(first element, words, elements) for up to kMost elements at a time, in parallel; a block of four words makes
// `per_block` elements.
template <class F>
void each_part(const OpContext& c, const Generator& g, int64_t n, int per_block, F&& f) {
  const int64_t blocks = (n + per_block - 1) / per_block;
  c.parallel((blocks + kBlocks - 1) / kBlocks, 4, [&](int64_t from, int64_t to, int) {
    uint32_t w[4 * kBlocks];
    for (int64_t part = from; part < to; ++part) {
      const int64_t b0 = part * kBlocks, left = n - b0 * per_block;
      const int count = static_cast<int>(left < kBlocks * per_block ? left : kBlocks * per_block);
      for (int b = 0; b * per_block < count; ++b) g.block(static_cast<uint64_t>(b0 + b), w + 4 * b);
      f(b0 * per_block, w, count);
    }
  });
}

Status drawn_infer(OpContext& c, int dtype_attr, int shape = 0) {
  const DType t = static_cast<DType>(c.attr_int(dtype_attr));
  if (t != DType::f32 && t != DType::f64 && t != DType::f16 && t != DType::bf16)
    return c.fail(Code::shape, "dtype is %s, expected float32, float64, float16 or bfloat16", dtype_name(t));
  if (c.in(shape)->rank > 1) return c.fail(Code::shape, "shape must be a vector; got rank %d", c.in(shape)->rank);
  int64_t dims[kMaxRank];
  int n = 0;
  DK_TRY(c.read_ints(shape, dims, kMaxRank, &n));
  for (int i = 0; i < n; ++i)
    if (dims[i] < 0)
      return c.fail(Code::shape, "dim %d of shape is negative; got %lld", i, static_cast<long long>(dims[i]));
  return c.set_out(0, t, n, dims);
}

// ---- random_uniform

Status random_uniform_infer(OpContext& c) { return drawn_infer(c, attr::random_uniform_::dtype); }

Status random_uniform_run(OpContext& c) {
  Tensor& y = *c.out(0);
  const DType t = y.dtype;
  const double low = c.attr_double(attr::random_uniform_::low), high = c.attr_double(attr::random_uniform_::high);
  const Generator g = next_run(c, attr::random_uniform_::seed);
  const size_t size = dtype_size(t);
  each_part(c, g, y.count(), t == DType::f64 ? 2 : 4, [&](int64_t at, const uint32_t* w, int n) {
    double d[kMost], back[kMost];
    fractions(t, w, n, d);
    for (int i = 0; i < n; ++i) d[i] = low + d[i] * (high - low);
    char* out = y.as<char>() + static_cast<size_t>(at) * size;
    convert(DType::f64, d, t, out, n);
    if (!(high > low)) return;
    convert(t, out, DType::f64, back, n);  // rounding may have reached `high`
    for (int i = 0; i < n; ++i)
      if (back[i] >= high) convert(DType::f64, &low, t, out + static_cast<size_t>(i) * size, 1);
  });
  return Code::ok;
}

// ---- keyed_uniform: the seed is an input

Status keyed_uniform_infer(OpContext& c) {
  const Tensor& seed = *c.in(0);
  if (seed.dtype != DType::u32 || seed.rank != 1 || seed.dims[0] != 2)
    return c.fail(Code::shape, "seed must be two uint32; got %s of rank %d", dtype_name(seed.dtype), seed.rank);
  return drawn_infer(c, attr::keyed_uniform_::dtype, 1);
}

Status keyed_uniform_run(OpContext& c) {
  const uint32_t* key = c.in(0)->as<uint32_t>();
  Tensor& y = *c.out(0);
  const DType t = y.dtype;
  Generator g;
  g.key = static_cast<uint64_t>(key[1]) << 32 | key[0];
  const size_t size = dtype_size(t);
  each_part(c, g, y.count(), t == DType::f64 ? 2 : 4, [&](int64_t at, const uint32_t* w, int n) {
    double d[kMost];
    fractions(t, w, n, d);
    convert(DType::f64, d, t, y.as<char>() + static_cast<size_t>(at) * size, n);
  });
  return Code::ok;
}

// ---- random_normal

Status random_normal_infer(OpContext& c) { return drawn_infer(c, attr::random_normal_::dtype); }

Status random_normal_run(OpContext& c) {
  Tensor& y = *c.out(0);
  const double mean = c.attr_double(attr::random_normal_::mean), scale = c.attr_double(attr::random_normal_::scale);
  const Generator g = next_run(c, attr::random_normal_::seed);
  const size_t size = dtype_size(y.dtype);
  each_part(c, g, y.count(), 4, [&](int64_t at, const uint32_t* w, int n) {
    double d[kMost];
    for (int i = 0; i < n; i += 2) {  // Box and Muller: two words make two elements
      const double r = std::sqrt(-2.0 * std::log(unit(w[i]) + 0x1p-24)), angle = 6.283185307179586 * unit(w[i + 1]);
      d[i] = mean + r * std::cos(angle) * scale;
      d[i + 1] = mean + r * std::sin(angle) * scale;
    }
    convert(DType::f64, d, y.dtype, y.as<char>() + static_cast<size_t>(at) * size, n);
  });
  return Code::ok;
}

// ---- bernoulli

Status bernoulli_infer(OpContext& c) {
  const Tensor& p = *c.in(0);
  if (!is_float(p.dtype)) return c.fail(Code::shape, "p must be a float; got %s", dtype_name(p.dtype));
  const DType t = static_cast<DType>(c.attr_int(attr::bernoulli_::dtype));
  return c.set_out(0, t == DType::none ? p.dtype : t, p.rank, p.dims);
}

Status bernoulli_run(OpContext& c) {
  const Tensor& p = *c.in(0);
  Tensor& y = *c.out(0);
  const Generator g = next_run(c, attr::bernoulli_::seed);
  const size_t from = dtype_size(p.dtype), to = dtype_size(y.dtype);
  each_part(c, g, y.count(), 4, [&](int64_t at, const uint32_t* w, int n) {
    double limit[kMost];
    uint8_t hit[kMost];
    convert(p.dtype, p.as<char>() + static_cast<size_t>(at) * from, DType::f64, limit, n);
    for (int i = 0; i < n; ++i) hit[i] = unit(w[i]) < limit[i];
    convert(DType::b8, hit, y.dtype, y.as<char>() + static_cast<size_t>(at) * to, n);
  });
  return Code::ok;
}

// ---- multinomial

Status multinomial_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  const DType t = static_cast<DType>(c.attr_int(attr::multinomial_::dtype));
  const int64_t samples = c.attr_int(attr::multinomial_::samples);
  if (!is_float(x.dtype)) return c.fail(Code::shape, "logits must be floats; got %s", dtype_name(x.dtype));
  if (x.rank != 2) return c.fail(Code::shape, "logits must have rank 2; got rank %d", x.rank);
  if (x.dims[1] == 0) return c.fail(Code::shape, "logits have no classes to choose from");
  if (!is_index(t)) return c.fail(Code::shape, "dtype is %s, expected int32 or int64", dtype_name(t));
  if (samples < 1) return c.fail(Code::shape, "samples is %lld, expected 1 or more", static_cast<long long>(samples));
  const int64_t dims[2] = {x.dims[0], samples};
  return c.set_out(0, t, 2, dims);
}

Status multinomial_prepare(OpContext& c) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<size_t>(c.in(0)->dims[1]), sizeof(double) * static_cast<size_t>(c.threads()),
                             &bytes))
    return c.fail(Code::memory, "too many classes");
  return c.need_scratch(bytes);
}

Status multinomial_run(OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  const int64_t classes = x.dims[1], samples = y.dims[1];
  const Generator g = next_run(c, attr::multinomial_::seed);
  const size_t size = dtype_size(x.dtype);
  c.parallel(x.dims[0], 4096 / classes + 1, [&](int64_t from, int64_t to, int lane) {
    double* sums = static_cast<double*>(c.scratch()) + lane * classes;
    for (int64_t b = from; b < to; ++b) {
      convert(x.dtype, x.as<char>() + static_cast<size_t>(b * classes) * size, DType::f64, sums, classes);
      double top = sums[0], total = 0;
      for (int64_t k = 1; k < classes; ++k) top = sums[k] > top ? sums[k] : top;
      for (int64_t k = 0; k < classes; ++k) sums[k] = total += std::exp(sums[k] - top);
      for (int64_t j = 0; j < samples; ++j) {
        uint32_t w[4];
        const uint64_t word = static_cast<uint64_t>(b * samples + j);
        g.block(word / 4, w);
        const double u = unit(w[word % 4]) * total;
        int64_t low = 0, high = classes;  // the first class whose running sum is above u
        while (low < high) {
          const int64_t middle = (low + high) / 2;
          if (sums[middle] <= u)
            low = middle + 1;
          else
            high = middle;
        }
        // total may be NaN: stay inside
        if (low >= classes) low = classes - 1;
        if (y.dtype == DType::s64)
          y.as<int64_t>()[b * samples + j] = low;
        else
          y.as<int32_t>()[b * samples + j] = static_cast<int32_t>(low);
      }
    }
  });
  return Code::ok;
}

const OpDef defs[] = {
    {Opcode::random_uniform_, random_uniform_infer, nullptr, random_uniform_run},
    {Opcode::random_normal_, random_normal_infer, nullptr, random_normal_run},
    {Opcode::bernoulli_, bernoulli_infer, nullptr, bernoulli_run},
    {Opcode::keyed_uniform_, keyed_uniform_infer, nullptr, keyed_uniform_run},
    {Opcode::multinomial_, multinomial_infer, multinomial_prepare, multinomial_run},
};

}  // namespace

const OpList ops_random = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
