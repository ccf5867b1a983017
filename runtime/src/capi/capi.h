// Between dk.h and the engine: conversions of tensors, the text of the last error.
#pragma once
#include "deploykit/dk.h"

#include "base/status.h"
#include "base/tensor.h"

namespace dk {

ErrorText& last_error();  // of this thread

inline dk_status to_c(Status s) { return static_cast<dk_status>(s.code); }

// Checks everything that can be checked of a caller's tensor; `what` names it in the message.  Null data is allowed
// when `need_data` is false.
Status from_c(const dk_tensor& t, const char* what, bool need_data, Tensor* to, ErrorText* error);
void to_c(const Tensor& t, dk_tensor* to);

}  // namespace dk
