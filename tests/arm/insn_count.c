/* A plugin for qemu-user: how many instructions the emulated program had executed whenever it wrote to its standard
 * output, one number per line in the file named by DK_COUNTS.  One thread: additions of several would get lost.
 *
 * The functions are those of qemu's plugin interface, version 1 (qemu 4.2 to 8.2); they are declared here because
 * distributions ship no header for them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PLUGIN __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*f)(plugin_id, struct qemu_plugin_tb*));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb* block, int operation, void* to, uint64_t n);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id id,
                                                 void (*f)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t,
                                                           uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));

PLUGIN int qemu_plugin_version = 1;

static uint64_t executed;
static FILE* out;

static void translated(plugin_id id, struct qemu_plugin_tb* block) {
  enum { ADD = 0 };
  qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, &executed, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t file, uint64_t a2, uint64_t a3, uint64_t a4,
                   uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  enum { WRITE = 64, WRITEV = 66 }; /* AArch64 */
  if ((number != WRITE && number != WRITEV) || file != 1) return;
  fprintf(out, "%" PRIu64 "\n", executed);
  fflush(out);
}

PLUGIN int qemu_plugin_install(plugin_id id, const void* info, int argc, char** argv) {
  const char* name = getenv("DK_COUNTS");
  out = name ? fopen(name, "w") : stderr;
  if (!out) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
