// The engine's side of OpContext: what stands behind the accessors that ops call.
#pragma once
#include "base/mem.h"
#include "base/status.h"
#include "format/model.h"
#include "ops/op.h"

namespace dk {

// Packed weights of one node: a short list by tag, living as long as the model.  The model's lock is held in prepare.
struct PackedList {
  struct Item {
    Item* next;
    void* data;
    size_t bytes;
    uint32_t tag;
  };
  Item* first = nullptr;

  Status get(uint32_t tag, size_t bytes, Budget* budget, void** p, bool* fresh);
  void free(Budget* budget);
  void drop_until(Item* mark, Budget* budget);  // takes back what was added since `mark` was first
};

// What a session and everything that runs for it have in common.
struct RunEnv {
  ErrorText* error = nullptr;
  ThreadPool* pool = nullptr;
  int threads = 1;
  bool fast = false;
  bool exact = false;
  uint64_t random_key = 0;  // drawn when first wanted
  uint64_t random_runs = 0;
  Bump borrowed;  // see OpContext::borrow
  int borrowers = 0;
};

struct OpState {
  const OpInfo* info = nullptr;
  const char* name = nullptr;  // of the node; may be empty
  const AttrValue* attrs = nullptr;
  RunEnv* env = nullptr;
  // Per input: data that is known in infer and prepare, else null; bit sets for the first 64 inputs do not suffice for
  // concat, so bytes.
  const void* const* known = nullptr;
  const uint8_t* constant = nullptr;
  bool running = false;
  int needed = -1;  // input whose data infer asked for
  PackedList* packed = nullptr;
  Budget* packed_budget = nullptr;
  Bump* memory = nullptr;  // for make_state
  bool dynamic = false;    // planned at every run
  size_t scratch = 0;
  uint64_t* node_runs = nullptr;  // of random nodes in this session
  const char* detail = "";        // for the profiler
  uint64_t flops = 0;
};

// Fills the private part of an OpContext.
struct OpAccess {
  static void set(OpContext& c, const Tensor* const* in, int n_in, Tensor* const* out, int n_out, OpState* op) {
    c.in_ = in, c.n_in_ = n_in, c.out_ = out, c.n_out_ = n_out, c.op_ = op;
  }
  static void set_run(OpContext& c, void* state, void* scratch) { c.state_ = state, c.scratch_ = scratch; }
  static void* state(const OpContext& c) { return c.state_; }
};

}  // namespace dk
