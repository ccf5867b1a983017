#include "base/text.h"

#include <cstdint>

namespace dk {
namespace {

struct Out {
  char* to;
  size_t size, at = 0;
  void put(char c) {
    if (at + 1 < size) to[at] = c;
    ++at;
  }
  void put(const char* s, int most) {
    for (int i = 0; s[i] && i != most; ++i) put(s[i]);
  }
  void number(uint64_t v, int least = 1) {
    char digits[20];
    int n = 0;
    for (; v || n < least; v /= 10) digits[n++] = static_cast<char>('0' + v % 10);
    while (n) put(digits[--n]);
  }
  void whole(int64_t v) {
    if (v < 0) put('-');
    number(v < 0 ? 0 - static_cast<uint64_t>(v) : static_cast<uint64_t>(v));
  }
  void real(double v);
};

void Out::real(double v) {
  if (v != v) return put("nan", -1);
  if (__builtin_signbit(v)) put('-');
  v = __builtin_fabs(v);
  if (v == 0) return put('0');
  if (v == __builtin_inf()) return put("inf", -1);
  int e = 0;  // v = m * 10^e with 1 <= m < 10
  for (; v >= 1e10; v /= 1e10) e += 10;
  for (; v >= 10; v /= 10) ++e;
  for (; v < 1e-10; v *= 1e10) e -= 10;
  for (; v < 1; v *= 10) --e;
  uint32_t digits = static_cast<uint32_t>(v * 1e5 + 0.5);
  if (digits == 1000000) digits = 100000, ++e;
  int n = 6;
  for (; n > 1 && digits % 10 == 0; --n) digits /= 10;
  char text[6];
  for (int i = n; i--; digits /= 10) text[i] = static_cast<char>('0' + digits % 10);
  const bool plain = e >= -4 && e < 6;
  const int before = !plain ? 1 : e < 0 ? 0 : e + 1;  // digits left of the point
  if (before == 0) put("0", -1);
  for (int i = 0; i < before; ++i) put(i < n ? text[i] : '0');
  if (before < n) put('.');
  for (int i = plain ? e + 1 : 0; i < 0; ++i) put('0');
  for (int i = before; i < n; ++i) put(text[i]);
  if (plain) return;
  put('e');
  put(e < 0 ? '-' : '+');
  number(static_cast<uint64_t>(e < 0 ? -e : e), 2);
}

}  // namespace

int format_text_list(char* to, size_t size, const char* format, va_list args) {
  Out o{to, size};
  for (const char* f = format; *f; ++f) {
    if (*f != '%') {
      o.put(*f);
      continue;
    }
    int most = -1, width = 0;  // width: how many of l and z stand before the letter
    if (*++f == '.') {
      most = 0;
      if (*++f == '*') {
        most = va_arg(args, int);
        ++f;
      }
      for (; *f >= '0' && *f <= '9'; ++f) most = most * 10 + (*f - '0');
    }
    for (; *f == 'l' || *f == 'z'; ++f) width += *f == 'l' ? 1 : sizeof(size_t) / 4;
    switch (*f) {
      case 's': o.put(va_arg(args, const char*), most); break;
      case 'c': o.put(static_cast<char>(va_arg(args, int))); break;
      case 'd': o.whole(width > 1 ? va_arg(args, long long) : va_arg(args, int)); break;
      case 'u': o.number(width > 1 ? va_arg(args, unsigned long long) : va_arg(args, unsigned)); break;
      case 'g': o.real(va_arg(args, double)); break;
      case '%': o.put('%'); break;
      default: __builtin_trap();  // a conversion that messages do not use
    }
  }
  if (size) to[o.at < size ? o.at : size - 1] = 0;
  return static_cast<int>(o.at);
}

int format_text(char* to, size_t size, const char* format, ...) {
  va_list args;
  va_start(args, format);
  const int n = format_text_list(to, size, format, args);
  va_end(args);
  return n;
}

}  // namespace dk
