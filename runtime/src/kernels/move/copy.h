// Strided copy: a dense row-major destination filled from a source walked with any strides (positive, zero, negative).
// Transpose, slice, expand, tile, reverse and depth_to_space are all this one loop nest.
//
//   dst[i0, i1, ...] = src[offset + i0 * strides[0] + i1 * strides[1] + ...]
//
// copy_plan normalises the nest: dims of 1 vanish, adjacent dims that walk evenly merge, a short contiguous inner run
// becomes a wider element.  What is left is one of a few inner loops (see Kind).  The work is counted in units that may
// be done in any order by any thread: copy_run(plan, src, dst, begin, end).
#pragma once
#include <cstddef>
#include <cstdint>

namespace dk {

constexpr int kCopyRank = 20;  // tile needs two dims per dim of the tensor

struct CopyPlan {
  enum Kind : uint8_t {
    none,       // no elements
    flat,       // one contiguous run: units are blocks of kCopyBlock bytes
    rows,       // contiguous inner runs: a unit is a run
    spread,     // inner stride 0: a unit repeats one element
    strided,    // any other inner stride: a unit is an inner row
    transpose,  // the innermost destination dim is strided, another dim is contiguous in the source: a unit is a block
                // of kTransposeRows destination rows
  };
  Kind kind = none;
  uint8_t esize = 0;  // bytes of an element after widening: 1, 2, 4, 8, 16 (rows: any)
  int rank = 0;
  int swap = 0;        // transpose: the dim that is contiguous in the source
  int64_t offset = 0;  // bytes
  int64_t units = 0;
  int64_t unit_bytes = 0;  // about how much one unit moves, for choosing a grain
  int64_t dims[kCopyRank];
  int64_t strides[kCopyRank];      // source, bytes
  int64_t out_strides[kCopyRank];  // destination, bytes
};

constexpr int64_t kCopyBlock = 32768;
constexpr int64_t kTransposeRows = 16;

// strides and offset count elements of esize (1, 2, 4, 8) bytes.
void copy_plan(CopyPlan* p, size_t esize, int rank, const int64_t* dims, const int64_t* strides, int64_t offset);
void copy_run(const CopyPlan& p, const void* src, void* dst, int64_t begin, int64_t end);

// `rows` runs of `run` bytes, with row strides in bytes on both sides (gather, concat, split).
void copy_rows(void* dst, int64_t dst_stride, const void* src, int64_t src_stride, int64_t run, int64_t rows);

// n elements of esize bytes (1, 2, 4, 8, 16), all equal to *value.
void fill_run(void* dst, const void* value, size_t esize, int64_t n);

}  // namespace dk
