// Ops and sessions called by a CPython interpreter on NumPy arrays, without the 15 to 20 us that ctypes takes for them.
//
// No header of Python or NumPy is needed, and the library still loads without either: deploykit/native_calls.py hands
// over the functions (all of the stable ABI, 3.11 and later) and objects used here, after it has made sure that objects
// and arrays look as described below.  Where they do not (free-threaded builds, other interpreters), nothing here runs.
//
// A prepared op is a built-in function.  It returns NotImplemented for whatever it does not take, and for every error:
// the caller then goes the long way, which also tells what was wrong.  A session's function does the same for inputs
// that do not fit; when the run itself fails it returns the status.
#if !defined(__wasm__)
#include <cstring>

#include "capi/capi.h"
#include "deploykit/dk.h"
#include "engine/eager.h"

using namespace dk;

namespace {

struct PyObject {  // Py_GIL_DISABLED builds have another one
  intptr_t references;
  PyObject* type;
};
struct PyDescr {  // the first fields of PyArray_Descr, the same in NumPy 1 and 2
  PyObject head;
  PyObject* scalar;
  char kind, type, byte_order, flags;
  int number;
};
struct PyArray {  // PyArrayObject_fields, the same in NumPy 1 and 2
  PyObject head;
  void* data;
  int rank;
  const intptr_t* dims;
  const intptr_t* strides;
  PyObject* base;
  PyObject* descr;
  int flags;
};
constexpr int kPlain = 0x1 | 0x100;  // C-contiguous and aligned
struct MethodDef {                   // PyMethodDef
  const char* name;
  PyObject* (*call)(PyObject* self, PyObject* const* args, intptr_t n);
  int flags;
  const char* doc;
};
constexpr int kFastCall = 0x80;

// In the order of native_calls.py.
struct Python {
  PyObject* (*capsule)(void*, const char*, void (*)(PyObject*));  // PyCapsule_New
  void* (*pointer)(PyObject*, const char*);                       // PyCapsule_GetPointer
  PyObject* (*function)(MethodDef*, PyObject*, PyObject*);        // PyCFunction_NewEx
  PyObject* (*get)(PyObject*, PyObject*);                         // PyObject_GetAttr
  int (*set)(PyObject*, PyObject*, PyObject*);                    // PyObject_SetAttr
  PyObject* (*object)(PyObject*, intptr_t);                       // PyType_GenericAlloc
  PyObject* (*tuple)(intptr_t);                                   // PyTuple_New
  int (*put)(PyObject*, intptr_t, PyObject*);                     // PyTuple_SetItem
  double (*to_double)(PyObject*);                                 // PyFloat_AsDouble
  long long (*to_int)(PyObject*, int*);                           // PyLong_AsLongLongAndOverflow
  PyObject* (*integer)(long long);                                // PyLong_FromLongLong
  void (*keep)(PyObject*);                                        // Py_IncRef
  void (*drop)(PyObject*);                                        // Py_DecRef
  void (*clear_error)();                                          // PyErr_Clear
  void* (*unlock)();                                              // PyEval_SaveThread
  void (*lock)(void*);                                            // PyEval_RestoreThread
  PyObject* (*empty)(int, const intptr_t*, PyObject*, int);       // PyArray_Empty, steals the dtype
  PyObject *none, *not_implemented, *array, *tensor, *payload, *float_type, *int_type;
  PyObject* descr[static_cast<int>(DType::count)];  // by code; null where NumPy has none
};
Python py;

constexpr int kMaxIn = 8, kMaxOut = 4;
enum : uint32_t {
  kTensors = 1,     // takes and gives tensors
  kNumbers = 2,     // Python numbers take the dtype of the first tensor
  kFloatsOnly = 4,  // of the first input
};
struct Prepared {
  EagerOp op;
  uint32_t flags;
  int n_out;
};

struct Call {
  PyObject* held[kMaxIn];  // payloads: a tensor may be given another one while the interpreter is unlocked
  int n_held = 0;
  PyObject* made[kMaxOut] = {};
  void* unlocked = nullptr;
  ~Call() {
    for (int i = 0; i < n_held; ++i) py.drop(held[i]);
    for (PyObject* m : made)
      if (m) py.drop(m);
  }
};

// Arrays out of pickles have descriptions of their own.
bool same_dtype(const PyObject* known, const PyObject* given) {
  if (known == given || !known) return known == given;
  const PyDescr &a = *reinterpret_cast<const PyDescr*>(known), &b = *reinterpret_cast<const PyDescr*>(given);
  return a.number == b.number && a.byte_order == b.byte_order;
}

bool take(PyObject* x, Tensor* to) {
  if (x->type != py.array) return false;
  const PyArray& a = *reinterpret_cast<PyArray*>(x);
  if ((a.flags & kPlain) != kPlain || a.rank > kMaxRank) return false;
  int code = static_cast<int>(DType::count);
  while (--code > 0 && !same_dtype(py.descr[code], a.descr)) {
  }
  if (code <= 0) return false;
  to->dtype = static_cast<DType>(code);
  to->rank = static_cast<uint8_t>(a.rank);
  for (int i = 0; i < a.rank; ++i) to->dims[i] = a.dims[i];
  to->data = a.data;
  return true;
}

// A Python number as a tensor without dims, of the dtype of the tensor beside it, where that loses nothing that
// converting an array would keep.
bool take_number(PyObject* x, DType dtype, char* memory, Tensor* to) {
  bool fraction = x->type == py.float_type;
  if (!fraction && x->type != py.int_type) return false;
  int overflow = 0;
  long long n = fraction ? 0 : py.to_int(x, &overflow);
  if (overflow || n > (1 << 24) || n < -(1 << 24)) return false;
  double v = fraction ? py.to_double(x) : static_cast<double>(n);
  if (dtype == DType::f32) {
    float f = static_cast<float>(v);
    memcpy(memory, &f, sizeof f);
  } else if (dtype == DType::f64) {
    memcpy(memory, &v, sizeof v);
  } else if (!fraction && dtype == DType::s32) {
    int32_t i = static_cast<int32_t>(n);
    memcpy(memory, &i, sizeof i);
  } else if (!fraction && dtype == DType::s64) {
    int64_t i = n;
    memcpy(memory, &i, sizeof i);
  } else {
    return false;
  }
  to->dtype = dtype;
  to->rank = 0;
  to->data = memory;
  return true;
}

void* make_array(void* arg, int i, const Tensor& t) {
  Call& call = *static_cast<Call*>(arg);
  PyObject* descr = py.descr[static_cast<int>(t.dtype)];
  if (!descr) return nullptr;
  intptr_t dims[kMaxRank];
  for (int d = 0; d < t.rank; ++d) dims[d] = static_cast<intptr_t>(t.dims[d]);
  py.keep(descr);
  PyObject* a = py.empty(t.rank, dims, descr, 0);
  call.made[i] = a;
  if (!a) py.clear_error();
  return a ? reinterpret_cast<PyArray*>(a)->data : nullptr;
}

PyObject* refuse() {
  py.keep(py.not_implemented);
  return py.not_implemented;
}

PyObject* wrap(const Prepared& p, PyObject* array) {  // takes over the reference
  if (!(p.flags & kTensors)) return array;
  PyObject* t = py.object(py.tensor, 0);
  if (t && py.set(t, py.payload, array) != 0) {
    py.drop(t);
    t = nullptr;
  }
  py.drop(array);
  return t;
}

PyObject* apply(PyObject* self, PyObject* const* args, intptr_t n) {
  const Prepared& p = *static_cast<Prepared*>(py.pointer(self, nullptr));
  if (n > kMaxIn) return refuse();
  Call call;
  Tensor ins[kMaxIn];
  const Tensor* ptrs[kMaxIn] = {};
  alignas(64) char numbers[kMaxIn][8];
  int first = -1;
  uint32_t later = 0;
  for (int i = 0; i < n; ++i) {
    PyObject* x = args[i];
    if (x == py.none) continue;
    if ((p.flags & kTensors) && x->type == py.tensor) {
      x = py.get(x, py.payload);
      if (!x) {
        py.clear_error();
        return refuse();
      }
      call.held[call.n_held++] = x;
    }
    if (take(x, &ins[i])) {
      if (first < 0) first = i;
    } else if (p.flags & kNumbers) {
      later |= 1u << i;
    } else {
      return refuse();
    }
    ptrs[i] = &ins[i];
  }
  if (first < 0 || ((p.flags & kTensors) && call.n_held == 0)) return refuse();
  for (int i = 0; later >> i; ++i)
    if ((later >> i & 1) && !take_number(args[i], ins[first].dtype, numbers[i], &ins[i])) return refuse();
  if ((p.flags & kFloatsOnly) && !is_float(ins[first].dtype)) return refuse();

  Tensor outs[kMaxOut];
  size_t work = 0;
  for (int i = 0; i < n; ++i)
    if (ptrs[i]) work += ins[i].bytes();
  ErrorText error;
  Status s;
  if (work < (64 << 10)) {
    s = apply_eager(p.op, ptrs, static_cast<int>(n), outs, p.n_out, 1, make_array, &call, &error);
  } else {  // others may go on meanwhile
    EagerAlloc alloc = [](void* arg, int i, const Tensor& t) {
      Call& call = *static_cast<Call*>(arg);
      py.lock(call.unlocked);
      void* data = make_array(arg, i, t);
      call.unlocked = py.unlock();
      return data;
    };
    call.unlocked = py.unlock();
    s = apply_eager(p.op, ptrs, static_cast<int>(n), outs, p.n_out, 1, alloc, &call, &error);
    py.lock(call.unlocked);
  }
  if (!s.ok()) return refuse();
  PyObject* made[kMaxOut];
  memcpy(made, call.made, sizeof made);
  memset(call.made, 0, sizeof call.made);
  if (p.n_out == 1) return wrap(p, made[0]);
  PyObject* all = py.tuple(p.n_out);
  for (int i = 0; i < p.n_out; ++i) {
    PyObject* y = wrap(p, made[i]);
    if (all && y) py.put(all, i, y);
  }
  return all;
}

PyObject* run_session(PyObject* self, PyObject* const* args, intptr_t n) {
  dk_session* session = static_cast<dk_session*>(py.pointer(self, nullptr));
  if (n != dk_session_input_count(session)) return refuse();
  for (int i = 0; i < n; ++i) {
    Tensor t;
    dk_tensor given;
    if (!take(args[i], &t)) return refuse();
    to_c(t, &given);
    if (dk_session_set_input(session, i, &given)) return refuse();
  }
  void* unlocked = py.unlock();
  const dk_status status = dk_session_run(session);
  py.lock(unlocked);
  if (status) return py.integer(status);
  const int count = dk_session_output_count(session);
  PyObject* all = py.tuple(count);
  for (int i = 0; all && i < count; ++i) {
    const dk_tensor* t = dk_session_output(session, i);
    PyObject* descr = py.descr[t->dtype];
    if (!descr) {
      py.drop(all);
      py.keep(py.none);
      return py.none;
    }
    intptr_t dims[kMaxRank];
    for (int d = 0; d < t->rank; ++d) dims[d] = static_cast<intptr_t>(t->dims[d]);
    py.keep(descr);
    PyObject* a = py.empty(t->rank, dims, descr, 0);
    if (!a) {  // out of memory: the exception is set
      py.drop(all);
      return nullptr;
    }
    if (t->bytes) memcpy(reinterpret_cast<PyArray*>(a)->data, t->data, t->bytes);
    py.put(all, i, a);
  }
  return all;
}

MethodDef session_definition = {"run", run_session, kFastCall, "Outputs of a session for arrays."};
MethodDef definition = {"op", apply, kFastCall, "An op with its attrs, to be called with arrays or tensors."};

}  // namespace

extern "C" {

// What the interpreter offers; `count` entries as in Python above.  Returns 0 when the number is not the expected one.
DK_API int32_t dk_python_bind(void* const* table, int32_t count) {
  if (static_cast<size_t>(count) * sizeof(void*) != sizeof(Python)) return 0;
  memcpy(static_cast<void*>(&py), table, sizeof py);
  return 1;
}

// A built-in function for an op (a new reference), or None when the attrs do not fit.  The attrs' memory must live as
// long as the interpreter.  Called with the interpreter locked, after dk_python_bind.
DK_API void* dk_python_op(uint16_t opcode, const dk_attr* attrs, int32_t n_attrs, int32_t n_out, uint32_t flags) {
  EagerAttr given[kMaxAttrs];
  ErrorText error;
  Prepared* p = static_cast<Prepared*>(mem_alloc_zeroed(sizeof(Prepared)));
  bool good = p && n_attrs >= 0 && n_attrs <= kMaxAttrs && n_out >= 1 && n_out <= kMaxOut;
  for (int i = 0; good && i < n_attrs; ++i)
    given[i] = {attrs[i].id, {attrs[i].i, attrs[i].f, attrs[i].ints, attrs[i].floats, attrs[i].s, attrs[i].n}};
  good = good && prepare_eager(opcode, given, n_attrs, &error, &p->op).ok();
  if (!good) {
    mem_free(p);
    py.keep(py.none);
    return py.none;
  }
  p->flags = flags;
  p->n_out = n_out;
  PyObject* self = py.capsule(p, nullptr, [](PyObject* c) { mem_free(py.pointer(c, nullptr)); });
  if (!self) {
    mem_free(p);
    return nullptr;
  }
  PyObject* f = py.function(&definition, self, nullptr);
  py.drop(self);
  return f;
}

// A built-in function that runs a session (a new reference), with None for outputs whose dtype NumPy lacks.  It must
// not be called after dk_session_free.  The arrays must live until the next call.
DK_API void* dk_python_session(dk_session* session) {
  PyObject* self = py.capsule(session, nullptr, nullptr);
  if (!self) return nullptr;
  PyObject* f = py.function(&session_definition, self, nullptr);
  py.drop(self);
  return f;
}

}  // extern "C"
#endif
