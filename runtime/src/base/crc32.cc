// Two ways to the same number: carry-less multiplication where the CPU has it, else eight tables.
//
// The folding follows V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction",
// Intel 2009.  Its constants are powers of x modulo the polynomial, computed here at compile time.
#include "base/crc32.h"

#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace dk {
namespace {

constexpr uint32_t kPoly = 0xedb88320;

struct Tables {
  uint32_t t[8][256];
};

void make_tables(Tables& m) {
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int k = 0; k < 8; ++k) c = (c >> 1) ^ (c & 1 ? kPoly : 0);
    m.t[0][i] = c;
  }
  for (int k = 1; k < 8; ++k)
    for (int i = 0; i < 256; ++i) m.t[k][i] = (m.t[k - 1][i] >> 8) ^ m.t[0][m.t[k - 1][i] & 255];
}

// Made by the first caller rather than stored: 8 KB that no compression makes smaller.  Several first callers write the
// same numbers.
const Tables& tables() {
  static Tables t;
  static bool made;
  if (!__atomic_load_n(&made, __ATOMIC_ACQUIRE)) {
    make_tables(t);
    __atomic_store_n(&made, true, __ATOMIC_RELEASE);
  }
  return t;
}

// Works on the inverted register.
uint32_t by_tables(uint32_t c, const uint8_t* p, size_t n) {
  const Tables& m = tables();
  while (n >= 8) {
    uint64_t v;
    memcpy(&v, p, 8);
    v ^= c;
    c = m.t[7][v & 255] ^ m.t[6][v >> 8 & 255] ^ m.t[5][v >> 16 & 255] ^ m.t[4][v >> 24 & 255] ^ m.t[3][v >> 32 & 255] ^
        m.t[2][v >> 40 & 255] ^ m.t[1][v >> 48 & 255] ^ m.t[0][v >> 56];
    p += 8;
    n -= 8;
  }
  while (n--) c = (c >> 8) ^ m.t[0][(c ^ *p++) & 255];
  return c;
}

#if defined(__x86_64__)
// x^n modulo the polynomial, bit-reflected in 33 bits: what a fold over n bits (less the 32 of the register's form)
// multiplies with.
constexpr uint64_t fold_constant(int n) {
  uint32_t r = 0x80000000;  // x^0
  for (int i = 0; i < n; ++i) r = (r >> 1) ^ (r & 1 ? kPoly : 0);
  return static_cast<uint64_t>(r) << 1;
}

constexpr uint64_t k512a = fold_constant(4 * 128 + 32), k512b = fold_constant(4 * 128 - 32);
constexpr uint64_t k128a = fold_constant(128 + 32), k128b = fold_constant(128 - 32);

__attribute__((target("pclmul,sse4.1"))) inline __m128i fold(__m128i x, __m128i k, __m128i next) {
  __m128i low = _mm_clmulepi64_si128(x, k, 0x00), high = _mm_clmulepi64_si128(x, k, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

// n >= 64 and a multiple of 16.  Four lanes of 16 bytes hide the latency of the multiplication; the last 16 bytes,
// which stand for everything before them, go through the tables.
__attribute__((target("pclmul,sse4.1"))) uint32_t by_folding(uint32_t c, const uint8_t* p, size_t n) {
  auto at = [&](size_t i) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 16 * i)); };
  __m128i x0 = _mm_xor_si128(at(0), _mm_cvtsi32_si128(static_cast<int>(c)));
  __m128i x1 = at(1), x2 = at(2), x3 = at(3);
  const __m128i k4 = _mm_set_epi64x(static_cast<long long>(k512b), static_cast<long long>(k512a));
  const __m128i k1 = _mm_set_epi64x(static_cast<long long>(k128b), static_cast<long long>(k128a));
  p += 64;
  n -= 64;
  for (; n >= 64; p += 64, n -= 64) {
    x0 = fold(x0, k4, at(0));
    x1 = fold(x1, k4, at(1));
    x2 = fold(x2, k4, at(2));
    x3 = fold(x3, k4, at(3));
  }
  x0 = fold(x0, k1, x1);
  x0 = fold(x0, k1, x2);
  x0 = fold(x0, k1, x3);
  for (; n >= 16; p += 16, n -= 16) x0 = fold(x0, k1, at(0));
  uint8_t rest[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(rest), x0);
  return by_tables(0, rest, 16);
}

// Asked once: it traps in virtual machines, which takes longer than a checksum.  (Clang takes the instruction for a
// pure function and would ask at every call instead of reading a plain static.)
bool has_pclmul() {
  static uint8_t known;  // 1: no, 2: yes
  uint8_t k = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (!k) {
    unsigned a, b, c, d;
    k = __get_cpuid(1, &a, &b, &c, &d) && (c & 2) ? 2 : 1;
    __atomic_store_n(&known, k, __ATOMIC_RELAXED);
  }
  return k == 2;
}
#endif

}  // namespace

uint32_t crc32(uint32_t crc, const void* data, size_t n) {
  const uint8_t* p = static_cast<const uint8_t*>(data);
  uint32_t c = ~crc;
#if defined(__x86_64__)
  if (n >= 64 && has_pclmul()) {
    size_t bulk = n & ~size_t{15};
    c = by_folding(c, p, bulk);
    p += bulk;
    n -= bulk;
  }
#endif
  return ~by_tables(c, p, n);
}

}  // namespace dk
