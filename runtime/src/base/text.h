// Messages: the few conversions of printf that the engine uses.
//
// The C library's own brings floating point of 128 bits, wide characters and streams along: a twentieth of what a page
// downloads.
#pragma once
#include <cstdarg>
#include <cstddef>

namespace dk {

// %s %c %d %u %lld %llu %zu %g %%, and %.Ns for the first N bytes; nothing else.  As snprintf: at most size - 1 bytes
// and a zero are written, the length of the whole is returned.  %g has six digits, the last of which may be off by one.
int format_text(char* to, size_t size, const char* format, ...) __attribute__((format(printf, 3, 4)));
int format_text_list(char* to, size_t size, const char* format, va_list args) __attribute__((format(printf, 3, 0)));

}  // namespace dk
