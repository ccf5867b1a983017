#include "kernels/fft/fft.h"

#include <cmath>
#include <cstring>

namespace dk {
namespace {

constexpr double kPi = 3.14159265358979323846;

size_t align64(size_t n) { return (n + 63) & ~size_t(63); }

template <class W>
struct Cx {
  W re, im;
};
template <class W>
inline Cx<W> operator+(Cx<W> a, Cx<W> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class W>
inline Cx<W> operator-(Cx<W> a, Cx<W> b) {
  return {a.re - b.re, a.im - b.im};
}
template <class W>
inline Cx<W> operator*(Cx<W> a, Cx<W> b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
template <class W>
inline Cx<W> turn(Cx<W> a) {  // times -i
  return {a.im, -a.re};
}

// Factors of n into *factor; false when one is too large.
bool factorise(int64_t n, int* count, uint8_t* factor) {
  *count = 0;
  while (n % 4 == 0) {
    factor[(*count)++] = 4;
    n /= 4;
  }
  for (int64_t p = 2; p <= kLargestRadix; p += 1 + (p > 2))
    while (n % p == 0) {
      factor[(*count)++] = static_cast<uint8_t>(p);
      n /= p;
    }
  return n == 1;
}

int64_t chirp_length(int64_t n) {
  int64_t m = 1;
  while (m < 2 * n - 1) m *= 2;
  return m;
}

// One stage: n = p * m elements with stride s.
//   y[q + s (p j + k)] = (sum over r of x[q + s (j + m r)] w_p^(r k)) w_n^(j k)
template <class W>
void stage(const FftPlan<W>& plan, int64_t p, int64_t m, int64_t s, const Cx<W>* x, Cx<W>* y) {
  const Cx<W>* roots = reinterpret_cast<const Cx<W>*>(plan.roots);
  const int64_t total = plan.radix_n;
  if (p == 4) {
    for (int64_t j = 0; j < m; ++j) {
      const Cx<W> w1 = roots[j * s], w2 = roots[2 * j * s], w3 = roots[3 * j * s];
      for (int64_t q = 0; q < s; ++q) {
        const Cx<W> a = x[q + s * j], b = x[q + s * (j + m)], c = x[q + s * (j + 2 * m)], d = x[q + s * (j + 3 * m)];
        const Cx<W> ac = a + c, am = a - c, bd = b + d, bm = turn(b - d);
        y[q + s * 4 * j] = ac + bd;
        y[q + s * (4 * j + 1)] = w1 * (am + bm);
        y[q + s * (4 * j + 2)] = w2 * (ac - bd);
        y[q + s * (4 * j + 3)] = w3 * (am - bm);
      }
    }
    return;
  }
  if (p == 2) {
    for (int64_t j = 0; j < m; ++j) {
      const Cx<W> w = roots[j * s];
      for (int64_t q = 0; q < s; ++q) {
        const Cx<W> a = x[q + s * j], b = x[q + s * (j + m)];
        y[q + s * 2 * j] = a + b;
        y[q + s * (2 * j + 1)] = w * (a - b);
      }
    }
    return;
  }
  // w_p^r for r < p; w_n^(j k) from the same table
  Cx<W> unit[kLargestRadix];
  for (int64_t r = 0; r < p; ++r) unit[r] = roots[r * (total / p)];
  for (int64_t j = 0; j < m; ++j)
    for (int64_t q = 0; q < s; ++q) {
      const Cx<W>* from = x + q + s * j;
      Cx<W>* to = y + q + s * p * j;
      for (int64_t k = 0; k < p; ++k) {
        Cx<W> sum = from[0];
        int64_t turns = 0;
        for (int64_t r = 1; r < p; ++r) {
          turns += k;
          if (turns >= p) turns -= p;
          sum = sum + from[s * m * r] * unit[turns];
        }
        to[s * k] = k && j ? sum * roots[j * k * s] : sum;
      }
    }
}

// Transform by radices of plan.radix_n numbers; forward only.
template <class W>
void by_radices(const FftPlan<W>& plan, Cx<W>* data, Cx<W>* work) {
  int64_t n = plan.radix_n, s = 1;
  Cx<W>*x = data, *y = work;
  for (int i = 0; i < plan.factors; ++i) {
    const int64_t p = plan.factor[i];
    n /= p;
    stage(plan, p, n, s, x, y);
    s *= p;
    Cx<W>* swap = x;
    x = y;
    y = swap;
  }
  if (x != data) memcpy(static_cast<void*>(data), x, static_cast<size_t>(plan.radix_n) * sizeof(Cx<W>));
}

template <class W>
void conjugate(W* data, int64_t n) {
  for (int64_t i = 0; i < n; ++i) data[2 * i + 1] = -data[2 * i + 1];
}

template <class W>
void transform(const FftPlan<W>& plan, W* data, void* work) {
  Cx<W>* x = reinterpret_cast<Cx<W>*>(data);
  Cx<W>* room = static_cast<Cx<W>*>(work);
  if (!plan.chirp) return by_radices(plan, x, room);
  const Cx<W>*wave = reinterpret_cast<const Cx<W>*>(plan.wave), *filter = reinterpret_cast<const Cx<W>*>(plan.filter);
  const int64_t n = plan.n, m = plan.radix_n;
  Cx<W>* a = room + m;
  for (int64_t k = 0; k < n; ++k) a[k] = x[k] * wave[k];
  memset(static_cast<void*>(a + n), 0, static_cast<size_t>(m - n) * sizeof(Cx<W>));
  by_radices(plan, a, room);
  // the inverse transform of the product, as the conjugate of a forward one
  for (int64_t k = 0; k < m; ++k) {
    a[k] = a[k] * filter[k];
    a[k].im = -a[k].im;
  }
  by_radices(plan, a, room);
  for (int64_t k = 0; k < n; ++k) x[k] = Cx<W>{a[k].re, -a[k].im} * wave[k];
}

}  // namespace

template <class W>
void fft_roots(int64_t n, int64_t count, W* to) {
  for (int64_t k = 0; k < count; ++k) {
    const double angle = -2 * kPi * static_cast<double>(k) / static_cast<double>(n);
    to[2 * k] = static_cast<W>(std::cos(angle));
    to[2 * k + 1] = static_cast<W>(std::sin(angle));
  }
}

template <class W>
size_t fft_plan_bytes(int64_t n) {
  int count;
  uint8_t factor[64];
  const size_t pair = 2 * sizeof(W);
  if (factorise(n, &count, factor)) return align64(static_cast<size_t>(n) * pair);
  const size_t m = static_cast<size_t>(chirp_length(n));
  return 2 * align64(m * pair) + align64(static_cast<size_t>(n) * pair);
}

template <class W>
size_t fft_work_bytes(int64_t n) {
  int count;
  uint8_t factor[64];
  const size_t pair = 2 * sizeof(W);
  return align64((factorise(n, &count, factor) ? static_cast<size_t>(n) : 2 * static_cast<size_t>(chirp_length(n))) *
                 pair);
}

template <class W>
void fft_plan(FftPlan<W>* plan, int64_t n, void* memory, void* work) {
  *plan = FftPlan<W>();
  plan->n = n;
  plan->chirp = !factorise(n, &plan->factors, plan->factor);
  plan->radix_n = n;
  if (plan->chirp) {
    plan->radix_n = chirp_length(n);
    factorise(plan->radix_n, &plan->factors, plan->factor);
  }
  char* next = static_cast<char*>(memory);
  auto take = [&](int64_t count) {
    W* p = reinterpret_cast<W*>(next);
    next += align64(static_cast<size_t>(count) * 2 * sizeof(W));
    return p;
  };
  const int64_t m = plan->radix_n;
  W* roots = take(m);
  fft_roots(m, m, roots);
  plan->roots = roots;
  if (!plan->chirp) return;
  W* wave = take(n);
  W* filter = take(m);
  memset(filter, 0, static_cast<size_t>(m) * 2 * sizeof(W));
  int64_t square = 0;  // k^2 modulo 2 n: the angle stays small and exact
  for (int64_t k = 0; k < n; ++k) {
    const double angle = kPi * static_cast<double>(square) / static_cast<double>(n);
    wave[2 * k] = static_cast<W>(std::cos(angle));
    wave[2 * k + 1] = static_cast<W>(-std::sin(angle));
    for (int64_t at = k; at >= 0; at = at == k && k ? m - k : -1) {  // at k and, mirrored, at m - k
      filter[2 * at] = static_cast<W>(std::cos(angle) / static_cast<double>(m));
      filter[2 * at + 1] = static_cast<W>(std::sin(angle) / static_cast<double>(m));
    }
    square = (square + 2 * k + 1) % (2 * n);
  }
  plan->wave = wave;
  plan->filter = filter;
  by_radices(*plan, reinterpret_cast<Cx<W>*>(filter), static_cast<Cx<W>*>(work));
}

template <class W>
void fft(const FftPlan<W>& plan, W* data, bool inverse, void* work) {
  if (inverse) conjugate(data, plan.n);
  transform(plan, data, work);
  if (inverse) conjugate(data, plan.n);
}

template <class W>
void fft_real(const FftPlan<W>& half, int64_t n, const W* roots, W* data, void* work) {
  const int64_t h = n / 2;
  Cx<W>* z = reinterpret_cast<Cx<W>*>(data);  // neighbours as real and imaginary part
  const Cx<W>* w = reinterpret_cast<const Cx<W>*>(roots);
  transform(half, data, work);
  z[h] = z[0];
  // X[k] = (Z[k] + Z*[h - k]) / 2 - i w^k (Z[k] - Z*[h - k]) / 2
  for (int64_t k = 0; k <= h - k; ++k) {
    const Cx<W> a = z[k], b = {z[h - k].re, -z[h - k].im};
    const Cx<W> even = {(a.re + b.re) / 2, (a.im + b.im) / 2}, odd = {(a.re - b.re) / 2, (a.im - b.im) / 2};
    const Cx<W> t = turn(odd * w[k]);
    z[k] = even + t;
    const Cx<W> other = even - t;  // its conjugate is X[h - k]
    z[h - k] = {other.re, -other.im};
  }
}

#define DK_FFT(W)                                                             \
  template size_t fft_plan_bytes<W>(int64_t);                                 \
  template size_t fft_work_bytes<W>(int64_t);                                 \
  template void fft_plan<W>(FftPlan<W>*, int64_t, void*, void*);              \
  template void fft<W>(const FftPlan<W>&, W*, bool, void*);                   \
  template void fft_real<W>(const FftPlan<W>&, int64_t, const W*, W*, void*); \
  template void fft_roots<W>(int64_t, int64_t, W*);
DK_FFT(float)
DK_FFT(double)

}  // namespace dk
