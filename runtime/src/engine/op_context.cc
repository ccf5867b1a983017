// OpContext: what ops see of the engine.
#include <cstdarg>

#include "base/text.h"
#include "engine/op_state.h"
#include "engine/pool.h"

namespace dk {

Status PackedList::get(uint32_t tag, size_t bytes, Budget* budget, void** p, bool* fresh) {
  *fresh = false;
  for (Item* i = first; i; i = i->next)
    if (i->tag == tag && i->bytes == bytes) {
      *p = i->data;
      return {};
    }
  if (budget && !budget->take(bytes)) return Code::memory;
  Item* item = static_cast<Item*>(mem_alloc(sizeof(Item)));
  void* data = item ? mem_alloc(bytes) : nullptr;
  if (!data) {
    mem_free(item);
    if (budget) budget->give(bytes);
    return Code::memory;
  }
  *item = {first, data, bytes, tag};
  first = item;
  *p = data;
  *fresh = true;
  return {};
}

void PackedList::drop_until(Item* mark, Budget* budget) {
  while (first != mark) {
    Item* i = first;
    first = i->next;
    if (budget) budget->give(i->bytes);
    mem_free(i->data);
    mem_free(i);
  }
}

void PackedList::free(Budget* budget) { drop_until(nullptr, budget); }

// ---- attrs
int64_t OpContext::attr_int(int id) const { return op_->attrs[id].i; }
float OpContext::attr_float(int id) const { return static_cast<float>(op_->attrs[id].f); }
double OpContext::attr_double(int id) const { return op_->attrs[id].f; }
Span<const int64_t> OpContext::attr_ints(int id) const { return {op_->attrs[id].ints, op_->attrs[id].n}; }
Span<const double> OpContext::attr_floats(int id) const { return {op_->attrs[id].floats, op_->attrs[id].n}; }
Span<const char> OpContext::attr_str(int id) const { return {op_->attrs[id].s, op_->attrs[id].n}; }

// ---- errors
Status OpContext::fail(Code code, const char* format, ...) const {
  char text[400];
  va_list args;
  va_start(args, format);
  format_text_list(text, sizeof text, format, args);
  va_end(args);
  if (op_->name && *op_->name) return op_->env->error->set(code, "%s '%s': %s", op_->info->name(), op_->name, text);
  return op_->env->error->set(code, "%s: %s", op_->info->name(), text);
}

// ---- infer
const void* OpContext::value(int i) const {
  if (i >= n_in_ || !in_[i]) return nullptr;
  return op_->running ? in_[i]->data : op_->known[i];
}

Status OpContext::need_value(int i) const {
  op_->needed = i;
  return Code::need_value;
}

Status OpContext::read_ints(int i, int64_t* to, int max, int* n) const {
  const Tensor* t = in(i);
  if (!t) return fail(Code::shape, "input %d is missing", i);
  if (t->dtype != DType::s64 && t->dtype != DType::s32)
    return fail(Code::shape, "input %d has dtype %s, expected int64 or int32", i, dtype_name(t->dtype));
  int64_t count = t->count();
  if (count > max)
    return fail(Code::shape, "input %d has %lld elements, expected at most %d", i, static_cast<long long>(count), max);
  *n = static_cast<int>(count);
  if (count == 0) return {};
  const void* data = value(i);
  if (!data) return need_value(i);
  for (int64_t k = 0; k < count; ++k)
    to[k] = t->dtype == DType::s64 ? static_cast<const int64_t*>(data)[k] : static_cast<const int32_t*>(data)[k];
  return {};
}

Status OpContext::set_out(int i, DType dtype, int rank, const int64_t* dims) const {
  if (rank < 0 || rank > kMaxRank)
    return fail(Code::unsupported, "output %d has rank %d, expected at most %d", i, rank, kMaxRank);
  uint64_t bytes;
  if (!tensor_bytes(dtype, rank, dims, &bytes)) {
    char text[160];
    return fail(Code::shape, "output %d would be %s%s, which is not a possible tensor", i, dtype_name(dtype),
                show_dims(rank, dims, text, sizeof text));
  }
  Tensor* t = out(i);
  if (!t) return {};
  t->dtype = dtype;
  t->rank = static_cast<uint8_t>(rank);
  int64_t copy[kMaxRank];  // dims may be those of the tensor itself
  for (int d = 0; d < rank; ++d) copy[d] = dims[d];
  for (int d = 0; d < rank; ++d) t->dims[d] = copy[d];
  return {};
}

// ---- prepare
bool OpContext::is_const(int i) const { return i < n_in_ && in_[i] && op_->constant && op_->constant[i]; }

Status OpContext::packed(uint32_t tag, size_t bytes, void** p, bool* fresh) {
  Status s = op_->packed->get(tag, bytes, op_->packed_budget, p, fresh);
  if (!s.ok()) return fail(s.code, "no memory for %zu bytes of packed weights", bytes);
  return s;
}

Status OpContext::make_state(size_t bytes, void** p) {
  state_ = op_->memory->take(bytes);
  if (!state_) return fail(Code::memory, "no memory for %zu bytes of state", bytes);
  *p = state_;
  return {};
}

bool OpContext::may_borrow() const { return op_->dynamic || op_->running; }

void* OpContext::borrow(size_t bytes) const {
  ++op_->env->borrowers;
  return op_->env->borrowed.take(bytes);
}

void OpContext::give_back() const {
  if (--op_->env->borrowers == 0) op_->env->borrowed.reset();
}

Status OpContext::need_scratch(size_t bytes) {
  if (bytes > SIZE_MAX / 4) return fail(Code::memory, "scratch of %zu bytes", bytes);
  if (bytes > op_->scratch) op_->scratch = bytes;
  return {};
}

void OpContext::note(const char* kernel, uint64_t flops) const {
  op_->detail = kernel;
  op_->flops = flops;
}

// ---- run
int OpContext::threads() const { return op_->env->threads; }
bool OpContext::fast() const { return op_->env->fast; }
bool OpContext::exact() const { return op_->env->exact; }

void OpContext::random_run(uint64_t seed, uint64_t* key, uint64_t* run) const {
  RunEnv& env = *op_->env;
  if (seed) {
    *key = seed;
    *run = op_->node_runs ? (*op_->node_runs)++ : 0;
    return;
  }
  if (!env.random_key) env.random_key = os_entropy() | 1;
  *key = env.random_key;
  *run = env.random_runs++;
}

void OpContext::parallel_raw(int64_t n, int64_t grain, void (*fn)(void*, int64_t, int64_t, int), void* arg) const {
  if (n <= 0) return;
  ThreadPool* pool = op_->env->pool;
  int64_t parts = grain > 1 ? n / grain : n;
  if (pool && parts > op_->env->threads) parts = op_->env->threads;
  if (!pool || parts <= 1) {
    fn(arg, 0, n, 0);
    return;
  }
  pool->run(n, static_cast<int>(parts), fn, arg);
}

}  // namespace dk
