// People hand over the wrong file all the time: say what it is instead of "bad magic".
#include <cstring>

#include "format/model.h"

namespace dk {
namespace {

bool starts(const uint8_t* p, size_t n, const char* with, size_t length) {
  return n >= length && !memcmp(p, with, length);
}

char lower(uint8_t c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); }

bool html(const uint8_t* p, size_t n) {
  size_t i = starts(p, n, "\xef\xbb\xbf", 3) ? 3 : 0;
  while (i < n && (p[i] == ' ' || p[i] == '\n' || p[i] == '\r' || p[i] == '\t')) ++i;
  for (const char* tag : {"<!doctype html", "<html", "<head", "<!--", "<?xml"}) {
    size_t k = 0;
    while (tag[k] && i + k < n && lower(p[i + k]) == tag[k]) ++k;
    if (!tag[k]) return true;
  }
  return false;
}

// An ONNX file is a protobuf message: field 1 (ir_version) as a small varint, then a field of ModelProto.
bool onnx(const uint8_t* p, size_t n) {
  if (n < 4 || p[0] != 0x08 || p[1] == 0 || p[1] > 64) return false;
  return p[2] == 0x12 || p[2] == 0x1a || p[2] == 0x22 || p[2] == 0x28 || p[2] == 0x32 || p[2] == 0x3a || p[2] == 0x42;
}

}  // namespace

const char* what_is_it(const uint8_t* p, size_t n) {
  if (html(p, n))
    return "this is a web page (HTML), not a model: the download probably led to an error or login page. Fetch the "
           "file again";
  if (starts(p, n, "version https://git-lfs", 23))
    return "this is a Git LFS pointer, not the model itself. Run `git lfs pull` in the repository that it came from";
  if (starts(p, n, "\x1f\x8b", 2)) return "this is a gzip file. Unpack it first (gunzip)";
  if (starts(p, n, "PK\x03\x04", 4))
    return "this is a zip archive (.keras, .pt2, .npz and .zip are). Convert a model with `deploykit convert`, or "
           "unpack it";
  if (n >= 8 && !memcmp(p + 4, "TFL3", 4))
    return "this is a TFLite model. Convert it first: deploykit convert MODEL -o model.dk";
  if (onnx(p, n)) return "this is an ONNX model. Convert it first: deploykit convert MODEL -o model.dk";
  if (starts(p, n, "\x89HDF\r\n\x1a\n", 8))
    return "this is an HDF5 file (Keras .h5). Convert it first: deploykit convert MODEL -o model.dk";
  if (starts(p, n,
             "\xfd"
             "7zXZ",
             5) ||
      starts(p, n, "BZh", 3) || starts(p, n, "\x28\xb5\x2f\xfd", 4))
    return "this is a compressed file (xz, bzip2 or zstd). Unpack it first";
  if (starts(p, n, "\x93NUMPY", 6)) return "this is a NumPy array (.npy), not a model";
  if (starts(p, n, "\x89PNG", 4) || starts(p, n, "\xff\xd8\xff", 3)) return "this is an image, not a model";
  if (starts(p, n, "\x80\x02", 2) || starts(p, n, "\x80\x04", 2))
    return "this is a Python pickle, not a .dk file. Export the model to ONNX, then convert it";
  size_t zeros = 0;
  while (zeros < n && zeros < 64 && p[zeros] == 0) ++zeros;
  if (zeros == n || zeros == 64)
    return "the file starts with zero bytes: a download or copy was probably interrupted. Fetch it again";
  if (starts(p, n, "{", 1)) return "this is JSON text, not a model";
  return nullptr;
}

}  // namespace dk
