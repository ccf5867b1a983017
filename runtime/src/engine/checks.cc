#include "engine/checks.h"

#include "base/os.h"

namespace dk {

const uint64_t kNothing[8] = {0};

bool same_spec(const Tensor& a, const Tensor& b) {
  if (a.dtype != b.dtype || a.rank != b.rank) return false;
  for (int i = 0; i < a.rank; ++i)
    if (a.dims[i] != b.dims[i]) return false;
  return true;
}

Status check_outputs(SessionState& s, const Step& step) {
  const NodeDef& n = *step.node;
  for (int32_t k = 0; k < n.n_out; ++k)
    if (step.out[k] && step.out[k]->dtype == DType::none)
      return s.error.set(Code::internal, "%s '%s': infer did not set output %d", n.op->name(), n.name, k);
  if (step.kind == StepKind::view && step.out[0] && step.out[0]->bytes() != step.in[0]->bytes())
    return s.error.set(Code::internal, "%s '%s': a view changed the number of bytes", n.op->name(), n.name);
  return {};
}

Status check_condition(SessionState& s, const NodeDef& n, const Tensor& t) {
  if (t.dtype == DType::b8 && t.count() == 1) return {};
  char dims[200];
  return s.error.set(Code::shape, "%s '%s': the condition is %s%s, expected one bool", n.op->name(), n.name,
                     dtype_name(t.dtype), show_dims(t.rank, t.dims, dims, sizeof dims));
}

Status check_trip(SessionState& s, const Step& step) {
  const NodeDef& n = *step.node;
  if (n.n_in > 1 && step.in[1]) DK_TRY(check_condition(s, n, *step.in[1]));
  if (n.n_in < 1 || !step.in[0]) return {};
  const Tensor& t = *step.in[0];
  if ((t.dtype == DType::s64 || t.dtype == DType::s32) && t.count() == 1) return {};
  char dims[200];
  return s.error.set(Code::shape, "%s '%s': the trip count is %s%s, expected one int64", n.op->name(), n.name,
                     dtype_name(t.dtype), show_dims(t.rank, t.dims, dims, sizeof dims));
}

int64_t read_trip(const Tensor& t, const void* data) {
  return t.dtype == DType::s64 ? *static_cast<const int64_t*>(data) : *static_cast<const int32_t*>(data);
}

Status stacked(SessionState& s, const NodeDef& n, const Tensor& piece, int64_t count, Tensor* to) {
  Tensor t;
  t.dtype = piece.dtype;
  t.rank = static_cast<uint8_t>(piece.rank + 1);
  uint64_t bytes;
  if (t.rank <= kMaxRank) {
    t.dims[0] = count;
    for (int d = 0; d < piece.rank; ++d) t.dims[d + 1] = piece.dims[d];
  }
  if (t.rank > kMaxRank || !tensor_bytes(t.dtype, t.rank, t.dims, &bytes))
    return s.error.set(Code::shape, "%s '%s': %lld scanned slices do not fit a tensor", n.op->name(), n.name,
                       static_cast<long long>(count));
  *to = t;
  return {};
}

Status check_stop(SessionState& s, const NodeDef& n) {
  if (__atomic_load_n(&s.cancelled, __ATOMIC_RELAXED))
    return s.error.set(Code::cancelled, "%s '%s': the run was cancelled before this node", n.op->name(), n.name);
  if (s.deadline && now_ns() > s.deadline)
    return s.error.set(Code::limit, "%s '%s': the time limit of %llu ms was reached before this node", n.op->name(),
                       n.name, static_cast<unsigned long long>(s.time_limit / 1'000'000));
  return {};
}

Status count_step(SessionState& s, const NodeDef& n) {
  DK_TRY(check_stop(s, n));
  if (s.options.max_steps && ++s.steps > s.options.max_steps)
    return s.error.set(Code::limit, "%s '%s': the limit of %llu steps per run is reached", n.op->name(), n.name,
                       static_cast<unsigned long long>(s.options.max_steps));
  return {};
}

bool is_final(Code c) { return c == Code::memory || c == Code::internal || c == Code::limit || c == Code::cancelled; }

Status check_assign(SessionState& s, const Step& step) {
  const Tensor& variable = s.variables[step.node->variable];
  if (same_spec(variable, *step.in[0])) return {};
  char a[200], b[200];
  return s.error.set(Code::shape, "assign_variable '%s': variable '%s' is %s%s, got %s%s", step.node->name,
                     s.model->file.variables[step.node->variable].name, dtype_name(variable.dtype),
                     show_dims(variable.rank, variable.dims, a, sizeof a), dtype_name(step.in[0]->dtype),
                     show_dims(step.in[0]->rank, step.in[0]->dims, b, sizeof b));
}

}  // namespace dk
