// What planning and dynamic nodes check alike.
#pragma once
#include "engine/session.h"

namespace dk {

extern const uint64_t kNothing[8];  // data of empty tensors

inline bool is(const NodeDef& n, Opcode o) { return n.op->opcode == static_cast<uint16_t>(o); }
bool same_spec(const Tensor& a, const Tensor& b);
Status check_outputs(SessionState& s, const Step& step);                     // after infer
Status check_condition(SessionState& s, const NodeDef& n, const Tensor& t);  // one bool
Status check_trip(SessionState& s, const Step& step);                        // inputs 0 and 1 of a loop
int64_t read_trip(const Tensor& t, const void* data);
Status stacked(SessionState& s, const NodeDef& n, const Tensor& piece, int64_t count, Tensor* to);  // [count, ...piece]
Status check_stop(SessionState& s, const NodeDef& n);    // deadline, cancellation
Status count_step(SessionState& s, const NodeDef& n);    // those, and the steps of the run
bool is_final(Code c);                                   // an error that another way of planning does not mend
Status check_assign(SessionState& s, const Step& step);  // the value fits the variable

}  // namespace dk
