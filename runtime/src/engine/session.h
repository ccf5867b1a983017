// What lives as long as a session: plans, arena, heap, variables, times.  And what lives as long as a model.
#pragma once
#include "engine/plan.h"

#if defined(__linux__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace dk {

class Lock {
 public:
  void take();
  void give();

 private:
#if defined(__linux__) || defined(__APPLE__)
  pthread_mutex_t m_ = PTHREAD_MUTEX_INITIALIZER;
#endif
};

// A loaded file and the weights packed for it.  Shared by sessions, on any threads.
struct ModelState {
  ModelFile file;
  Lock lock;                      // held while plans are made and nodes prepared
  PackedList** packed = nullptr;  // [graph][node]
  int64_t packed_bytes = 0;
  int refs = 1;

  Status init(ErrorText* error);  // after the file is loaded: checks that there are kernels for all ops
  ~ModelState();
};

struct NodeTime {
  uint64_t calls, nanoseconds;
};

// Per graph and session: its plans, and the arena of those that are not part of a parent's.
struct GraphState {
  const GraphDef* graph;
  Plan* plans;
  Plan* current;
  char* arena;
  uint64_t arena_bytes;
  NodeTime* times;      // per node, null unless profiling
  uint64_t* node_runs;  // per node, for random ops
};

struct SessionOptions {
  int threads = 0;  // 0: DK_THREADS, else the allowed CPUs
  const char* signature = nullptr;
  uint64_t max_memory = 0;
  uint64_t max_steps = 0;
  bool profile = false;
  bool keep_values = false;
  bool fast = false;
  bool exact = false;
};

struct SessionState {
  ModelState* model = nullptr;
  const GraphDef* graph = nullptr;
  ErrorText error;
  Budget budget;
  RunEnv env;
  Heap heap{&budget};
  Bump memory;
  SessionOptions options;
  GraphState* graphs = nullptr;
  Tensor* variables = nullptr;
  bool* variable_bound = nullptr;  // its memory is the caller's
  Tensor* inputs = nullptr;        // as set by the caller
  bool* input_set = nullptr;
  void** input_copy = nullptr;  // for inputs that cannot be used in place
  size_t* input_copy_bytes = nullptr;
  uint64_t clock = 0;
  uint64_t steps = 0;       // of the current run
  uint64_t time_limit = 0;  // nanoseconds per run, 0: none
  uint64_t deadline = 0;    // of the current run, by now_ns
  uint32_t cancelled = 0;   // atomic: the only thing that other threads may touch
  bool trace = false;
  bool ran = false;

  Status init(ModelState* m, const SessionOptions& options);
  ~SessionState();

  Status set_input(int32_t i, const Tensor& t);
  void begin();      // the clock and the steps of a run or prepare start here
  Status prepare();  // finds or makes the plan for the inputs set
  Status run();
  void reset_variables();
  Status bind_variable(int32_t v, const Tensor& t);
  void drop_plans();
  GraphState& top() { return graphs[graph->index]; }
  Plan* plan() { return graphs ? top().current : nullptr; }

 private:
  Status check_symbols();
};

// The plan of a graph for these inputs from its cache, made when missing; its arena is there and bound.
Status find_plan(SessionState& s, const PlanRequest& request, bool locked, Plan** plan);

// "input 'x': got float32[1,3], expected float32[batch,4]"-style text of what a graph input wants.
const char* show_wanted(const ModelFile& file, const InputDef& in, char* buffer, size_t size);

}  // namespace dk
