// CRC-32 as in zlib (polynomial 0xedb88320, reflected).
#pragma once
#include <cstddef>
#include <cstdint>

namespace dk {

uint32_t crc32(uint32_t crc, const void* data, size_t n);  // start with 0; chains like zlib's

}  // namespace dk
