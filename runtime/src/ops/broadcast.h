// Broadcasting for ops whose output is a function of one element of each input.
//
// `Broadcast` is the plan: dims of the output with adjacent ones merged where every input walks them alike, and the
// element step of each input per dim.  `each_part` walks a range of the output in row-major order and hands out parts
// in which every input is either contiguous (step 1) or one value (step 0); inputs that are neither within a part, such
// as a [3] vector against [n, 3], are gathered into a buffer of kPart elements.
#pragma once
#include "ops/op.h"

namespace dk {

// "[2, 3]" for error messages.
struct ShapeText {
  char text[kMaxRank * 22 + 3];
  explicit ShapeText(const Tensor& t);
};

constexpr int kMaxBroadcast = 3;  // inputs
constexpr int kPart = 256;        // elements of a part that needed gathering

struct Broadcast {
  int n_in;
  int rank;       // >= 1
  int64_t count;  // elements of the output
  int64_t dims[kMaxRank];
  int64_t step[kMaxBroadcast][kMaxRank];
  uint32_t size[kMaxBroadcast];  // bytes of an element
  uint8_t whole[kMaxBroadcast];  // 1: contiguous over the whole output, 2: one value, 3: its last dim repeats, 0: else
  bool rows;                     // parts are pieces of the last dim
};

// Dims of the result by NumPy's rule into dims[kMaxRank]; fails with Code::shape naming the shapes.
Status broadcast_shapes(const OpContext& c, const Tensor* const* in, int n_in, int64_t* dims, int* rank);

// The plan for inputs that are known to broadcast to `out`.
void plan_broadcast(Broadcast* b, const Tensor* const* in, int n_in, const Tensor& out);

// One part: n elements of the output from element `at` on.
struct Part {
  const void* in[kMaxBroadcast];
  int step[kMaxBroadcast];
  int64_t at;
  int64_t n;
};

// Calls fn(part) over the outputs [begin, end).
void each_part(const Broadcast& b, const void* const* data, int64_t begin, int64_t end, void (*fn)(void*, const Part&),
               void* arg);

template <class F>
void each_part(const Broadcast& b, const void* const* data, int64_t begin, int64_t end, F&& fn) {
  auto thunk = [](void* f, const Part& part) { (*static_cast<F*>(f))(part); };
  each_part(b, data, begin, end, thunk, &fn);
}

}  // namespace dk
