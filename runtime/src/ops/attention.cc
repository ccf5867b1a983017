// attention and rotary_embedding.
//
// attention goes block by block of query rows: scores by the GEMM core against packed keys, weights row by row, then
// the product with the values by the GEMM core again; the scores of a block stay in cache, the whole score matrix never
// exists.  A few query rows (decoding) skip the packing and use dot products.  Narrow floats are computed in float32
// copies, float64 in plain loops.
#include <cmath>

#include "base/convert.h"
#include "kernels/attention/attention.h"
#include "kernels/gemm/gemm.h"
#include "ops/shape_util.h"

namespace dk {
extern const OpList ops_attention;

namespace {

namespace A = attr::attention_;

size_t align64(size_t n) { return (n + 63) & ~size_t(63); }

struct Problem {
  int64_t h, hk, l, s, d, dv;
  int64_t batches = 1;
  int rank = 0;  // of the batch
  int64_t dims[kMaxRank];
  int64_t q[kMaxRank], k[kMaxRank], v[kMaxRank];   // strides of the batch dims, in elements
  int64_t mask[kMaxRank], mask_h, mask_l, mask_s;  // strides, 0 where it broadcasts

  int64_t offset(const int64_t* strides, int64_t batch) const {
    int64_t at = 0;
    for (int i = rank - 1; i >= 0; --i) {
      at += batch % dims[i] * strides[i];
      batch /= dims[i];
    }
    return at;
  }
};

Status read_problem(const OpContext& c, Problem* p) {
  const Tensor* t[3] = {c.in(0), c.in(1), c.in(2)};
  static const char* const names[] = {"q", "k", "v"};
  for (int i = 0; i < 3; ++i) {
    if (t[i]->rank < 3) return c.fail(Code::shape, "%s must have rank 3 or more; got %d", names[i], t[i]->rank);
    if (t[i]->rank - 3 > p->rank) p->rank = t[i]->rank - 3;
  }
  auto dim = [](const Tensor& x, int back) { return x.dims[x.rank - back]; };
  *p = {dim(*t[0], 3),
        dim(*t[1], 3),
        dim(*t[0], 2),
        dim(*t[1], 2),
        dim(*t[0], 1),
        dim(*t[2], 1),
        1,
        p->rank,
        {0},
        {0},
        {0},
        {0},
        {0},
        0,
        0,
        0};
  if (dim(*t[2], 3) != p->hk || dim(*t[2], 2) != p->s)
    return c.fail(Code::shape, "k has %lld heads of %lld rows, v has %lld of %lld", static_cast<long long>(p->hk),
                  static_cast<long long>(p->s), static_cast<long long>(dim(*t[2], 3)),
                  static_cast<long long>(dim(*t[2], 2)));
  if (dim(*t[1], 1) != p->d)
    return c.fail(Code::shape, "q has %lld features, k has %lld", static_cast<long long>(p->d),
                  static_cast<long long>(dim(*t[1], 1)));
  if (p->hk == 0 ? p->h != 0 : p->h % p->hk != 0)
    return c.fail(Code::shape, "q has %lld heads, expected a multiple of the %lld of k", static_cast<long long>(p->h),
                  static_cast<long long>(p->hk));
  for (int i = 0; i < p->rank; ++i) p->dims[i] = 1;
  for (int k = 0; k < 3; ++k) {
    const int lead = p->rank - (t[k]->rank - 3);
    for (int i = lead; i < p->rank; ++i) {
      const int64_t d = t[k]->dims[i - lead];
      if (d == 1 || d == p->dims[i]) continue;
      if (p->dims[i] != 1)
        return c.fail(Code::shape, "batch dim %d of %s is %lld, expected %lld or 1", i, names[k],
                      static_cast<long long>(d), static_cast<long long>(p->dims[i]));
      p->dims[i] = d;
    }
  }
  int64_t* strides[3] = {p->q, p->k, p->v};
  for (int k = 0; k < 3; ++k) {
    const int lead = p->rank - (t[k]->rank - 3);
    int64_t step = product(*t[k], t[k]->rank - 3, t[k]->rank);
    for (int i = p->rank - 1; i >= 0; --i) {
      const int64_t d = i >= lead ? t[k]->dims[i - lead] : 1;
      strides[k][i] = d == 1 ? 0 : step;
      step *= d;
    }
  }
  for (int i = 0; i < p->rank; ++i) p->batches *= p->dims[i];
  if (const Tensor* m = c.in(3)) {
    int64_t full[kMaxRank];
    for (int i = 0; i < p->rank; ++i) full[i] = p->dims[i];
    full[p->rank] = p->h, full[p->rank + 1] = p->l, full[p->rank + 2] = p->s;
    if (m->rank > p->rank + 3)
      return c.fail(Code::shape, "mask has rank %d, expected at most %d", m->rank, p->rank + 3);
    const int lead = p->rank + 3 - m->rank;
    int64_t step = 1;
    for (int i = p->rank + 2; i >= 0; --i) {
      const int64_t d = i >= lead ? m->dims[i - lead] : 1;
      if (d != 1 && d != full[i])
        return c.fail(Code::shape, "dim %d of mask is %lld, expected %lld or 1", i - lead, static_cast<long long>(d),
                      static_cast<long long>(full[i]));
      (i < p->rank        ? p->mask[i]
       : i == p->rank     ? p->mask_h
       : i == p->rank + 1 ? p->mask_l
                          : p->mask_s) = d == 1 ? 0 : step;
      step *= d;
    }
  }
  return Code::ok;
}

Status attention_infer(OpContext& c) {
  const Tensor& q = *c.in(0);
  if (!is_float(q.dtype)) return c.fail(Code::shape, "q must be floats; got %s", dtype_name(q.dtype));
  DK_TRY(same_dtype(c, 0, 1));
  DK_TRY(same_dtype(c, 0, 2));
  if (c.in(3) && c.in(3)->dtype != DType::b8 && c.in(3)->dtype != q.dtype)
    return c.fail(Code::shape, "mask must be bool or %s; got %s", dtype_name(q.dtype), dtype_name(c.in(3)->dtype));
  Problem p{};
  DK_TRY(read_problem(c, &p));
  int64_t dims[kMaxRank];
  for (int i = 0; i < p.rank; ++i) dims[i] = p.dims[i];
  dims[p.rank] = p.h, dims[p.rank + 1] = p.l, dims[p.rank + 2] = p.dv;
  return c.set_out(0, q.dtype, p.rank + 3, dims);
}

// ---- plan

constexpr int64_t kFewRows = 4;  // fewer query rows than this are not worth packing keys for

struct Plan {
  Problem p;
  const AttentionKernels* kernels;
  const GemmKernels* gemm;
  GemmLayout keys, values;  // K' as [d, s] panels, V as [s, dv]
  bool pack_values;
  int64_t block;  // query rows per unit
  float scale, softcap;
  bool causal;
  size_t copies[4], copy_y;  // offsets of float32 copies of q, k, v, mask and y
  size_t bias, lanes, lane_bytes;
  size_t scores, packed_k, packed_v, mask_row;  // within a lane
};

Status attention_prepare(OpContext& c) {
  const Tensor& q = *c.in(0);
  Plan* plan;
  DK_TRY(c.make_state(&plan));
  Problem& p = plan->p;
  DK_TRY(read_problem(c, &p));
  plan->kernels = attention_kernels();
  plan->gemm = gemm_kernels();
  const double scale = c.attr_double(A::scale);
  plan->scale = static_cast<float>(scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(p.d ? p.d : 1)));
  plan->softcap = c.attr_float(A::softcap);
  plan->causal = c.attr_int(A::causal) != 0;
  size_t at = 0;
  auto take = [&](size_t bytes) {
    const size_t here = at;
    at += align64(bytes);
    return here;
  };
  if (q.dtype == DType::f64)
    return c.need_scratch(align64(static_cast<size_t>(p.s) * 8) * static_cast<size_t>(c.threads()));
  if (q.dtype != DType::f32) {
    for (int i = 0; i < 4; ++i)
      if (c.in(i) && c.in(i)->dtype != DType::b8)
        plan->copies[i] = take(static_cast<size_t>(c.in(i)->count()) * 4 + kSlack);
    plan->copy_y = take(static_cast<size_t>(c.out(0)->count()) * 4);
  }
  const int mr = plan->gemm->main.mr;
  plan->block = p.l < kFewRows ? 1 : 131072 / (p.s ? p.s : 1);
  if (plan->block < mr && p.l >= kFewRows) plan->block = mr;
  if (plan->block > 4 * mr) plan->block = 4 * mr;
  if (plan->block > p.l) plan->block = p.l ? p.l : 1;
  plan->keys = gemm_layout(plan->gemm, p.d, p.s);
  plan->values = gemm_layout(plan->gemm, p.s, p.dv);
  plan->pack_values = !gemm_in_place(plan->values);
  const int64_t wide = plan->keys.padded() > plan->values.padded() ? plan->keys.padded() : plan->values.padded();
  plan->bias = take(static_cast<size_t>(wide) * 4);
  plan->lanes = at;
  at = 0;
  plan->scores = take(static_cast<size_t>(plan->block * p.s) * 4);
  plan->mask_row = take(static_cast<size_t>(p.s) * 4);
  if (p.l >= kFewRows) {
    plan->packed_k = take(plan->keys.bytes());
    if (plan->pack_values) plan->packed_v = take(plan->values.bytes());
  }
  plan->lane_bytes = at;
  c.note(p.l < kFewRows ? "dot products" : "gemm", 2 * static_cast<uint64_t>(p.batches * p.h) *
                                                       static_cast<uint64_t>(p.l * p.s) *
                                                       static_cast<uint64_t>(p.d + p.dv));
  return c.need_scratch(plan->lanes + plan->lane_bytes * static_cast<size_t>(c.threads()));
}

// ---- run

// How many of the keys row l may see.
int64_t visible(const Plan& plan, int64_t l) {
  if (!plan.causal) return plan.p.s;
  const int64_t n = l + 1 + plan.p.s - plan.p.l;
  return n < 0 ? 0 : n > plan.p.s ? plan.p.s : n;
}

// The mask of one row as n floats to add, or null.
const float* mask_of(const Plan& plan, const Tensor* mask, const float* values, int64_t batch, int64_t head, int64_t l,
                     int64_t n, float* row) {
  if (!mask) return nullptr;
  const Problem& p = plan.p;
  const int64_t at = p.offset(p.mask, batch) + head * p.mask_h + l * p.mask_l;
  if (mask->dtype != DType::b8) {
    if (p.mask_s) return values + at;
    for (int64_t i = 0; i < n; ++i) row[i] = values[at];
    return row;
  }
  const uint8_t* allowed = mask->as<uint8_t>() + at;
  for (int64_t i = 0; i < n; ++i) row[i] = allowed[i * p.mask_s] ? 0.0f : -INFINITY;
  return row;
}

struct Operands {
  const float *q, *k, *v, *mask;
  float* y;
};

void attend(const OpContext& c, const Plan& plan, const Operands& o) {
  const Problem& p = plan.p;
  const AttentionKernels& kernels = *plan.kernels;
  char* scratch = static_cast<char*>(c.scratch());
  float* bias = reinterpret_cast<float*>(scratch + plan.bias);
  memset(bias, 0, plan.lanes - plan.bias);
  GemmEpilogue epilogue;
  epilogue.bias = bias;
  const int64_t blocks = (p.l + plan.block - 1) / plan.block, group = p.h / p.hk;
  const bool few = p.l < kFewRows;
  const int64_t unit_cost = plan.block * p.s * (p.d + p.dv) + 1;
  c.parallel(p.batches * p.h * blocks, 100000 / unit_cost + 1, [&](int64_t begin, int64_t end, int lane) {
    char* mine = scratch + plan.lanes + static_cast<size_t>(lane) * plan.lane_bytes;
    float* scores = reinterpret_cast<float*>(mine + plan.scores);
    float* mask_row = reinterpret_cast<float*>(mine + plan.mask_row);
    float* packed_k = reinterpret_cast<float*>(mine + plan.packed_k);
    float* packed_v = plan.pack_values ? reinterpret_cast<float*>(mine + plan.packed_v) : nullptr;
    const float* packed_for = nullptr;  // the keys that packed_k holds
    for (int64_t u = begin; u < end; ++u) {
      const int64_t batch = u / blocks / p.h, head = u / blocks % p.h;
      const int64_t l0 = u % blocks * plan.block, l1 = l0 + plan.block < p.l ? l0 + plan.block : p.l;
      const float* q = o.q + p.offset(p.q, batch) + (head * p.l + l0) * p.d;
      const float* k = o.k + p.offset(p.k, batch) + head / group * p.s * p.d;
      const float* v = o.v + p.offset(p.v, batch) + head / group * p.s * p.dv;
      float* y = o.y + ((batch * p.h + head) * p.l + l0) * p.dv;
      const int64_t reach = visible(plan, l1 - 1);
      if (!few) {
        if (packed_for != k) {
          gemm_pack(plan.gemm, plan.keys, packed_k, k, 1, p.d, 0, plan.keys.count());
          if (packed_v) gemm_pack(plan.gemm, plan.values, packed_v, v, p.dv, 1, 0, plan.values.count());
          packed_for = k;
        }
        const GemmMatrix rows(q, p.d);
        GemmProblem g{};
        g.kernels = plan.gemm;
        g.layout = &plan.keys;
        g.m = l1 - l0, g.taps = 1, g.k = p.d;
        g.rows = &rows;
        g.packed = packed_k;
        g.c = scores, g.ldc = p.s;
        g.epilogue = &epilogue;
        int64_t panels = plan.keys.count();
        while (panels > 1 && plan.keys.column(panels - 1) >= reach) --panels;
        gemm_run(g, 0, g.m, 0, panels);
      } else {
        kernels.dots(scores, q, k, p.d, p.d, reach);
      }
      float sums[64 * 4];
      for (int64_t l = l0; l < l1; ++l) {
        float* row = scores + (l - l0) * p.s;
        const int64_t n = visible(plan, l);
        const float* mask = mask_of(plan, c.in(3), o.mask, batch, head, l, n, mask_row);
        sums[l - l0] = kernels.weights(row, n, plan.scale, plan.softcap, mask);
        for (int64_t i = n; i < reach; ++i) row[i] = 0;
      }
      if (!few) {
        const GemmMatrix rows(scores, p.s);
        GemmProblem g{};
        g.kernels = plan.gemm;
        g.layout = &plan.values;
        g.m = l1 - l0, g.taps = 1, g.k = reach;
        g.rows = &rows;
        g.packed = packed_v;
        g.b = v, g.ldb = p.dv;
        g.c = y, g.ldc = p.dv;
        g.epilogue = &epilogue;
        gemm_run(g, 0, g.m, 0, plan.values.count());
      } else {
        kernels.combine(y, scores, v, p.dv, p.dv, reach);
      }
      for (int64_t l = l0; l < l1; ++l) {
        const float total = sums[l - l0];
        kernels.scale(y + (l - l0) * p.dv, p.dv, total == 0 ? 1.0f : 1.0f / total);
      }
    }
  });
}

void attend_double(const OpContext& c, const Plan& plan) {
  const Problem& p = plan.p;
  const int64_t group = p.h / p.hk;
  const double given = c.attr_double(A::scale), softcap = c.attr_double(A::softcap);
  const double scale = given != 0 ? given : 1 / std::sqrt(static_cast<double>(p.d ? p.d : 1));
  const Tensor* mask = c.in(3);
  c.parallel(p.batches * p.h * p.l, 1, [&](int64_t begin, int64_t end, int lane) {
    double* row = reinterpret_cast<double*>(static_cast<char*>(c.scratch()) +
                                            static_cast<size_t>(lane) * align64(static_cast<size_t>(p.s) * 8));
    for (int64_t u = begin; u < end; ++u) {
      const int64_t l = u % p.l, head = u / p.l % p.h, batch = u / p.l / p.h;
      const double* q = c.in(0)->as<double>() + p.offset(p.q, batch) + (head * p.l + l) * p.d;
      const double* k = c.in(1)->as<double>() + p.offset(p.k, batch) + head / group * p.s * p.d;
      const double* v = c.in(2)->as<double>() + p.offset(p.v, batch) + head / group * p.s * p.dv;
      const int64_t at = p.offset(p.mask, batch) + head * p.mask_h + l * p.mask_l;
      double* y = c.out(0)->as<double>() + u * p.dv;
      const int64_t n = visible(plan, l);
      double top = -INFINITY, total = 0;
      for (int64_t j = 0; j < n; ++j) {
        double t = 0;
        for (int64_t i = 0; i < p.d; ++i) t += q[i] * scale * k[j * p.d + i];
        if (softcap > 0) t = softcap * std::tanh(t / softcap);
        if (mask && mask->dtype == DType::b8)
          t = mask->as<uint8_t>()[at + j * p.mask_s] ? t : -INFINITY;
        else if (mask)
          t += mask->as<double>()[at + j * p.mask_s];
        row[j] = t;
        if (t > top) top = t;
      }
      if (top == -INFINITY) top = 0;
      for (int64_t j = 0; j < n; ++j) total += row[j] = std::exp(row[j] - top);
      for (int64_t i = 0; i < p.dv; ++i) y[i] = 0;
      for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < p.dv; ++i) y[i] += row[j] * v[j * p.dv + i];
      for (int64_t i = 0; i < p.dv; ++i) y[i] /= total == 0 ? 1 : total;
    }
  });
}

void convert_parallel(const OpContext& c, DType from, const void* in, DType to, void* out, int64_t n) {
  c.parallel(n, 16384, [&](int64_t b, int64_t e, int) {
    convert(from, static_cast<const char*>(in) + static_cast<size_t>(b) * dtype_size(from), to,
            static_cast<char*>(out) + static_cast<size_t>(b) * dtype_size(to), e - b);
  });
}

Status attention_run(OpContext& c) {
  const Plan& plan = *c.state<Plan>();
  Tensor& y = *c.out(0);
  if (y.count() == 0) return Code::ok;
  if (plan.p.s == 0) {
    memset(y.data, 0, y.bytes());
    return Code::ok;
  }
  const DType t = y.dtype;
  if (t == DType::f64) {
    attend_double(c, plan);
    return Code::ok;
  }
  const float* in[4] = {nullptr, nullptr, nullptr, nullptr};
  float* out = y.as<float>();
  char* scratch = static_cast<char*>(c.scratch());
  for (int i = 0; i < 4; ++i) {
    if (!c.in(i) || c.in(i)->dtype == DType::b8) continue;
    in[i] = c.in(i)->as<float>();
    if (t == DType::f32) continue;
    float* copy = reinterpret_cast<float*>(scratch + plan.copies[i]);
    convert_parallel(c, t, c.in(i)->data, DType::f32, copy, c.in(i)->count());
    in[i] = copy;
  }
  if (t != DType::f32) out = reinterpret_cast<float*>(scratch + plan.copy_y);
  attend(c, plan, {in[0], in[1], in[2], in[3], out});
  if (t != DType::f32) convert_parallel(c, DType::f32, out, t, y.data, y.count());
  return Code::ok;
}

// ---- rotary_embedding

Status rotary_infer(OpContext& c) {
  const Tensor& x = *c.in(0);
  if (!is_float(x.dtype)) return c.fail(Code::shape, "x must be floats; got %s", dtype_name(x.dtype));
  if (x.rank < 1) return c.fail(Code::shape, "x is a scalar");
  static const char* const names[] = {"x", "cos", "sin"};
  for (int k = 1; k < 3; ++k) {
    const Tensor& t = *c.in(k);
    DK_TRY(same_dtype(c, 0, k));
    if (t.rank < 1 || t.rank > x.rank)
      return c.fail(Code::shape, "%s has rank %d, expected 1 to %d", names[k], t.rank, x.rank);
    const int64_t n = t.dims[t.rank - 1];
    if (n > x.dims[x.rank - 1] / 2 || n != c.in(1)->dims[c.in(1)->rank - 1])
      return c.fail(Code::shape, "%s has %lld features; x has %lld, cos %lld", names[k], static_cast<long long>(n),
                    static_cast<long long>(x.dims[x.rank - 1]),
                    static_cast<long long>(c.in(1)->dims[c.in(1)->rank - 1]));
    for (int i = 0; i + 1 < t.rank; ++i) {
      const int64_t want = x.dims[i + x.rank - t.rank];
      if (t.dims[i] != 1 && t.dims[i] != want)
        return c.fail(Code::shape, "dim %d of %s is %lld, expected %lld or 1", i, names[k],
                      static_cast<long long>(t.dims[i]), static_cast<long long>(want));
    }
  }
  return c.set_out_like(0, x);
}

size_t rotary_row(const Tensor& x) {
  return align64(static_cast<size_t>(x.dims[x.rank - 1]) * (x.dtype == DType::f64 ? 8 : 4));
}

Status rotary_prepare(OpContext& c) {
  if (c.in(0)->dtype == DType::f32) return Code::ok;
  return c.need_scratch(4 * rotary_row(*c.in(0)) * static_cast<size_t>(c.threads()));
}

template <class W>
void rotate_pairs(W* ya, W* yb, const W* a, const W* b, const W* cos, const W* sin, int64_t n, int64_t step) {
  for (int64_t i = 0; i < n; ++i) {
    const W p = a[i * step], q = b[i * step];
    ya[i * step] = p * cos[i] - q * sin[i];
    yb[i * step] = q * cos[i] + p * sin[i];
  }
}

template <class W>
void rotary(const OpContext& c) {
  const Tensor& x = *c.in(0);
  Tensor& y = *c.out(0);
  const bool interleaved = c.attr_int(attr::rotary_embedding_::interleaved) != 0;
  const int64_t features = x.dims[x.rank - 1], n = c.in(1)->dims[c.in(1)->rank - 1];
  const DType own = sizeof(W) == 4 ? DType::f32 : DType::f64;
  const bool copies = x.dtype != own;
  const size_t size = dtype_size(x.dtype), row_bytes = rotary_row(x);
  const AttentionKernels* kernels = attention_kernels();
  int64_t strides[2][kMaxRank];
  for (int k = 0; k < 2; ++k) {
    const Tensor& t = *c.in(1 + k);
    int64_t step = n;
    for (int i = x.rank - 2; i >= 0; --i) {
      const int at = i - (x.rank - t.rank);
      const int64_t d = at >= 0 ? t.dims[at] : 1;
      strides[k][i] = d == 1 ? 0 : step;
      step *= d;
    }
  }
  c.parallel(x.count() / features, 16384 / features + 1, [&](int64_t begin, int64_t end, int lane) {
    char* mine = copies ? static_cast<char*>(c.scratch()) + static_cast<size_t>(lane) * 4 * row_bytes : nullptr;
    for (int64_t r = begin; r < end; ++r) {
      int64_t at[2] = {0, 0}, rest = r;
      for (int i = x.rank - 2; i >= 0; --i) {
        const int64_t k = rest % x.dims[i];
        rest /= x.dims[i];
        at[0] += k * strides[0][i];
        at[1] += k * strides[1][i];
      }
      auto row = [&](const Tensor& t, int64_t from, int64_t count, int slot) {
        const char* p = static_cast<const char*>(t.data) + static_cast<size_t>(from) * size;
        if (!copies) return reinterpret_cast<const W*>(p);
        W* to = reinterpret_cast<W*>(mine + static_cast<size_t>(slot) * row_bytes);
        convert(t.dtype, p, own, to, count);
        return const_cast<const W*>(to);
      };
      const W* from = row(x, r * features, features, 0);
      const W* cos = row(*c.in(1), at[0], n, 1);
      const W* sin = row(*c.in(2), at[1], n, 2);
      char* target = y.as<char>() + static_cast<size_t>(r * features) * size;
      W* to = copies ? reinterpret_cast<W*>(mine + 3 * row_bytes) : reinterpret_cast<W*>(target);
      if (interleaved) {
        rotate_pairs(to, to + 1, from, from + 1, cos, sin, n, 2);
      } else if constexpr (sizeof(W) == 4) {
        kernels->rotate(to, to + n, from, from + n, cos, sin, n);
      } else {
        rotate_pairs(to, to + n, from, from + n, cos, sin, n, 1);
      }
      if (to != from) memcpy(to + 2 * n, from + 2 * n, static_cast<size_t>(features - 2 * n) * sizeof(W));
      if (copies) convert(own, to, y.dtype, target, features);
    }
  });
}

Status rotary_run(OpContext& c) {
  if (c.out(0)->count() == 0) return Code::ok;
  if (c.in(0)->dtype == DType::f64)
    rotary<double>(c);
  else
    rotary<float>(c);
  return Code::ok;
}

const OpDef defs[] = {
    {Opcode::attention_, attention_infer, attention_prepare, attention_run},
    {Opcode::rotary_embedding_, rotary_infer, rotary_prepare, rotary_run, 1},
};

}  // namespace

const OpList ops_attention = {defs, sizeof(defs) / sizeof(defs[0])};
}  // namespace dk
