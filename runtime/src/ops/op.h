// The contract between engine and ops.  An op is an adapter around kernels, in up to three functions:
//
//   infer    dtype and dims of every wanted output from the inputs' dtypes and dims, and from their data where the
//   shape
//            depends on it (`value`).  Checks everything that `run` relies on: kernels do not check again.
//   prepare  once per set of shapes: choose kernels, pack weights, ask for scratch.  May allocate.  Optional.
//   run      once per inference: no allocation, no checks except of data (indices).
//
// Rules: the input data pointers seen in prepare are valid only where `is_const(i)`; everything is contiguous and
// row-major; kSlack bytes behind the end of every input may be read (their content means nothing); data are aligned to
// their element size, and to 64 bytes unless they come from the caller or lie inside a concatenated buffer: load and
// store activations unaligned.  Packed weights, state and scratch are 64-byte aligned.  An input may be the same buffer
// as another input, an output never overlaps an input except where OpDef::inplace allows it.  Zero-size tensors are
// legal everywhere: data may then be null.
#pragma once
#include "base/status.h"
#include "base/tensor.h"

namespace dk {

constexpr size_t kSlack = 64;

enum class Opcode : uint16_t {
#define DK_OP(code, name, ...) name##_ = code,
#include "../schema/opset.inc"
};

// attr::conv::groups is the index of the attr in the passport.
namespace attr {
#define DK_ATTR(op, index, name, ...) \
  namespace op##_ {                   \
    constexpr int name = index;       \
  }
#include "../schema/opset.inc"
}  // namespace attr

// choice::pad_::mode::reflect is the stored value of an enum attr.
namespace choice {
#define DK_ENUM(op, name, word, value) \
  namespace op##_ {                    \
    namespace name {                   \
    constexpr int64_t word##_ = value; \
    }                                  \
  }
#include "../schema/opset.inc"
}  // namespace choice

class ThreadPool;
struct OpState;  // engine's side

class OpContext {
 public:
  // ---- tensors.  Absent optional inputs and unwanted outputs are null.
  int n_in() const { return n_in_; }
  int n_out() const { return n_out_; }
  const Tensor* in(int i) const { return i < n_in_ ? in_[i] : nullptr; }
  Tensor* out(int i) const { return i < n_out_ ? out_[i] : nullptr; }

  // ---- attrs, by attr::<op>_::<name>; defaults are filled in from opset.inc
  int64_t attr_int(int id) const;  // int, bool, enum, dtype
  float attr_float(int id) const;
  double attr_double(int id) const;
  Span<const int64_t> attr_ints(int id) const;
  Span<const double> attr_floats(int id) const;
  Span<const char> attr_str(int id) const;  // not zero-terminated by contract

  // ---- errors: `return c.fail(Code::shape, "axis is %lld; expected below %d", ...)`; the engine adds op and node name
  Status fail(Code code, const char* format, ...) const __attribute__((format(printf, 3, 4)));

  // ---- infer
  // Data of input i when known now: always in run; in infer for constants and for small integer tensors computed from
  // shapes.  In infer a null with a present, non-empty input means: return need_value(i), and the engine calls infer
  // again when the data is there.
  const void* value(int i) const;
  Status need_value(int i) const;
  // Reads an integer tensor input (int64 or int32) of any shape as numbers; fails on too many or wrong dtype.
  // Returns need_value when the data is not known yet.
  Status read_ints(int i, int64_t* to, int max, int* n) const;
  Status set_out(int i, DType dtype, int rank, const int64_t* dims) const;  // checks sizes for overflow
  Status set_out_like(int i, const Tensor& t) const { return set_out(i, t.dtype, t.rank, t.dims); }

  // ---- prepare
  bool is_const(int i) const;  // the input's data never changes while the model is loaded: may be packed
  // Memory that lives as long as the model, shared by all plans of this node, e.g. packed weights.  `tag` names the
  // content (layout and tile); *fresh tells whether the caller must fill it.  64-byte aligned.
  Status packed(uint32_t tag, size_t bytes, void** p, bool* fresh);
  // Memory for this node and these shapes (choices, tables); zeroed; p is also what state() returns in run.
  Status make_state(size_t bytes, void** p);
  template <class T>
  Status make_state(T** p) {
    return make_state(sizeof(T), reinterpret_cast<void**>(p));
  }
  Status need_scratch(size_t bytes);  // temporary memory during run, from the arena; the largest request counts
  // Memory of the session for what only the data tells the size of, in run, and in infer and prepare of nodes that are
  // planned at every run; null when there is none left.  When all that was borrowed is given back, it is kept for the
  // next node that asks: equal runs allocate nothing.  See TempMemory in ops/index_util.h.
  bool may_borrow() const;
  void* borrow(size_t bytes) const;
  void give_back() const;
  // For the profiler: the kernel chosen (a static string) and the arithmetic per run, in infer or prepare.
  void note(const char* kernel, uint64_t flops = 0) const;

  // ---- run
  template <class T>
  T* state() const {
    return static_cast<T*>(state_);
  }
  void* scratch() const { return scratch_; }
  int threads() const;
  bool fast() const;   // also in prepare: products may round their operands to bfloat16
  bool exact() const;  // also in prepare: only algorithms that sum as the op's definition does
  // Call fn(begin, end, lane) over [0, n) split statically into at most threads() parts of at least `grain`.
  template <class F>
  void parallel(int64_t n, int64_t grain, F&& fn) const {
    auto thunk = [](void* f, int64_t b, int64_t e, int lane) { (*static_cast<F*>(f))(b, e, lane); };
    parallel_raw(n, grain, thunk, &fn);
  }
  // Philox key and run number for an op with the `random` flag (ops/random.py): seed 0 draws on the session's key and
  // counter, any other seed is the key and the node's own runs in this session are counted.
  void random_run(uint64_t seed, uint64_t* key, uint64_t* run) const;

  void parallel_raw(int64_t n, int64_t grain, void (*fn)(void*, int64_t, int64_t, int), void* arg) const;

 private:
  friend struct OpAccess;  // the engine fills this in
  const Tensor* const* in_ = nullptr;
  Tensor* const* out_ = nullptr;
  int n_in_ = 0;
  int n_out_ = 0;
  void* state_ = nullptr;
  void* scratch_ = nullptr;
  OpState* op_ = nullptr;
};

constexpr uint32_t kEachInplace = 1u << 31;  // every output may be the buffer of the input of its number

struct OpDef {
  Opcode opcode;
  Status (*infer)(OpContext&);
  Status (*prepare)(OpContext&);  // may be null
  Status (*run)(OpContext&);      // null for views
  uint32_t inplace = 0;           // bit i: output 0 may be input i's buffer (when bytes are equal); kEachInplace
#if !defined(__wasm__)            // where every byte of the library is downloaded
  // May be null.  Called after prepare of two nodes of ops that have it: c alone reads the output of `before`, as its
  // input 0.  With *joined the run of c does the work of both (and of what `before` was joined with), and there is no
  // memory for what is between them.
  Status (*join)(OpContext& c, const OpContext& before, bool* joined) = nullptr;
#endif
};
#if defined(__wasm__)
static_assert(sizeof(OpDef) == 20, "deploykit/bundle/wasm_sizes.py reads these rows");
#elif defined(__LP64__)
static_assert(sizeof(OpDef) == 48, "deploykit/bundle/sizes.py reads these rows");
#endif

// Every ops/*.cc file defines one list and is named in ops/registry.cc (control flow is the engine's own).
struct OpList {
  const OpDef* defs;
  int count;
};

}  // namespace dk
