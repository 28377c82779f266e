/*
 * Runs a program and makes one of its system calls fail, or kills it there:
 *
 *   faults KIND N ACTION FOLDER RECORD PROGRAM [ARGUMENT...]
 *
 * KIND    calls that are counted: open (for writing), write, sync, rename, remove, folder, size, read; change: all but read;
 *         grow: all that may need room, which removing does not
 * N       the number of the call, from 1; 0: none is touched
 * ACTION  ENOSPC, EIO, EACCES, EROFS, EDQUOT: the call fails so. With a + behind it this call and all after it fail.
 *         KILL: the program is killed before the call.
 * FOLDER  only calls on files in this folder (its real path) are counted; relative names lie in it
 * RECORD  a file that gets a line for every call that was counted: its name and its file, with a ! before the one that
 *         was touched first
 *
 * Ends with the program's exit code, or 128 and the number of the signal that ended it; 125 where this can't be done
 * here. The calls are caught by seccomp and ptrace, below every library: some of them never pass through libc.
 * For Linux on x86-64.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CANNOT = 125 };

/* How a call names its file: a descriptor or a path, and in which argument. */
enum named { FD0, PATH0, PATH1, OPEN0, OPEN1, CREAT0 };

static const struct {
  long number;
  const char *name, *kind;
  enum named named;
} CALLS[] = {
    {SYS_open, "open", "open", OPEN0},
    {SYS_creat, "creat", "open", CREAT0},
    {SYS_openat, "openat", "open", OPEN1},
    {SYS_write, "write", "write", FD0},
    {SYS_writev, "writev", "write", FD0},
    {SYS_pwrite64, "pwrite64", "write", FD0},
    {SYS_pwritev, "pwritev", "write", FD0},
    {SYS_fsync, "fsync", "sync", FD0},
    {SYS_fdatasync, "fdatasync", "sync", FD0},
    {SYS_rename, "rename", "rename", PATH1},
    {SYS_renameat, "renameat", "rename", PATH1},
    {SYS_renameat2, "renameat2", "rename", PATH1},
    {SYS_unlink, "unlink", "remove", PATH0},
    {SYS_unlinkat, "unlinkat", "remove", PATH1},
    {SYS_mkdir, "mkdir", "folder", PATH0},
    {SYS_mkdirat, "mkdirat", "folder", PATH1},
    {SYS_ftruncate, "ftruncate", "size", FD0},
    {SYS_fallocate, "fallocate", "size", FD0},
    {SYS_fchmod, "fchmod", "size", FD0},
    {SYS_read, "read", "read", FD0},
    {SYS_pread64, "pread64", "read", FD0},
    {SYS_readv, "readv", "read", FD0},
};
enum { KINDS = sizeof CALLS / sizeof *CALLS };

static const struct {
  const char *name;
  int number;
} ERRORS[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EACCES", EACCES}, {"EROFS", EROFS}, {"EDQUOT", EDQUOT}};

static const char *kind, *folder;
static long counted, due;
static int error, lasting, killing;
static FILE *record;

static void give_up(const char *what) {
  fprintf(stderr, "faults: %s: %s\n", what, strerror(errno));
  exit(CANNOT);
}

static int wanted(int i) {
  const char *own = CALLS[i].kind;
  if (strcmp(own, "read") != 0 && strcmp(kind, "change") == 0) return 1;
  if (strcmp(own, "read") != 0 && strcmp(own, "remove") != 0 && strcmp(kind, "grow") == 0) return 1;
  return strcmp(kind, own) == 0;
}

/* From here on the wanted calls stop this process for the one that watches it. */
static void filter(void) {
  struct sock_filter code[2 * KINDS + 8];
  unsigned short n = 0;
  int i;
  struct sock_fprog program;
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
  code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (i = 0; i < KINDS; i++) {
    if (!wanted(i)) continue;
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)CALLS[i].number, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
  }
  code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  program.len = n;
  program.filter = code;
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) give_up("no new privileges");
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) give_up("seccomp");
}

/* A string of the watched process. */
static void text_of(pid_t thread, unsigned long long at, char *text, size_t room) {
  size_t n = 0;
  while (n + 1 < room) {
    /* Never past a page's end: the next page need not be there. */
    size_t some = 4096 - (size_t)((at + n) % 4096);
    struct iovec here, there;
    ssize_t got;
    if (some > room - 1 - n) some = room - 1 - n;
    here.iov_base = text + n;
    here.iov_len = some;
    there.iov_base = (void *)(size_t)(at + n);
    there.iov_len = some;
    got = process_vm_readv(thread, &here, 1, &there, 1, 0);
    if (got <= 0) break;
    if (memchr(text + n, 0, (size_t)got) != NULL) return;
    n += (size_t)got;
  }
  text[n] = 0;
}

/* The file of a call, as a real path; empty where it is not in the folder, or is only read. */
static void file_of(pid_t thread, int i, const struct user_regs_struct *r, char *path, size_t room) {
  char text[2048];
  unsigned long long flags = O_WRONLY, at = r->rdi;
  path[0] = 0;
  if (CALLS[i].named == FD0) {
    char link[64];
    ssize_t n;
    snprintf(link, sizeof link, "/proc/%d/fd/%d", thread, (int)r->rdi);
    n = readlink(link, path, room - 1);
    path[n < 0 ? 0 : n] = 0;
  } else {
    if (CALLS[i].named == PATH1 || CALLS[i].named == OPEN1) at = r->rsi;
    if (strcmp(CALLS[i].name, "renameat") == 0 || strcmp(CALLS[i].name, "renameat2") == 0) at = r->r10;
    if (CALLS[i].named == OPEN0) flags = r->rsi;
    if (CALLS[i].named == OPEN1) flags = r->rdx;
    if ((flags & (O_WRONLY | O_RDWR | O_CREAT)) == 0) return;
    text_of(thread, at, text, sizeof text);
    if (text[0] == '/') snprintf(path, room, "%s", text);
    else snprintf(path, room, "%s/%s", folder, text);
  }
  if (strncmp(path, folder, strlen(folder)) != 0) path[0] = 0;
}

/* A thread is about to make a call: counts it, and makes it fail where it is due. */
static void meet(pid_t thread, pid_t process) {
  struct user_regs_struct registers;
  char path[4200];
  int i;
  if (ptrace(PTRACE_GETREGS, thread, 0, &registers) != 0) return; /* it was killed meanwhile */
  for (i = 0; i < KINDS && CALLS[i].number != (long)registers.orig_rax; i++) {
  }
  if (i == KINDS) return;
  file_of(thread, i, &registers, path, sizeof path);
  if (path[0] == 0) return;
  counted++;
  if (fprintf(record, "%s%s %s\n", counted == due ? "!" : "", CALLS[i].name, path) < 0) give_up("the record");
  if (due == 0 || counted < due || (counted > due && !lasting)) return;
  if (killing) {
    kill(process, SIGKILL);
    return;
  }
  registers.orig_rax = (unsigned long long)-1;
  registers.rax = (unsigned long long)-(long long)error;
  if (ptrace(PTRACE_SETREGS, thread, 0, &registers) != 0) give_up("a call can't be refused");
}

/* Watches the process until it ends; its exit code. */
static int watch(pid_t process) {
  int first = 1;
  for (;;) {
    int state, signal = 0;
    pid_t thread = waitpid(-1, &state, __WALL);
    if (thread < 0) {
      if (errno == EINTR) continue;
      give_up("waiting");
    }
    if (WIFEXITED(state) || WIFSIGNALED(state)) {
      if (thread != process) continue;
      return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    }
    if (!WIFSTOPPED(state)) continue;
    if (first) {
      long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                     PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
      if (ptrace(PTRACE_SETOPTIONS, thread, 0, options) != 0) give_up("ptrace");
      first = 0;
    } else if (state >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
      meet(thread, process);
    } else if (state >> 16 == 0 && WSTOPSIG(state) != SIGSTOP && WSTOPSIG(state) != SIGTRAP) {
      signal = WSTOPSIG(state);
    }
    ptrace(PTRACE_CONT, thread, 0, signal);
  }
}

int main(int argc, char **argv) {
  pid_t process;
  int code;
  size_t e;
  char name[16];
  if (argc < 7 || strlen(argv[3]) >= sizeof name) {
    fprintf(stderr, "faults KIND N ACTION FOLDER RECORD PROGRAM [ARGUMENT...]\n");
    return CANNOT;
  }
  kind = argv[1];
  due = atol(argv[2]);
  folder = argv[4];
  strcpy(name, argv[3]);
  lasting = name[strlen(name) - 1] == '+';
  if (lasting) name[strlen(name) - 1] = 0;
  killing = strcmp(name, "KILL") == 0;
  for (e = 0; e < sizeof ERRORS / sizeof *ERRORS; e++) {
    if (strcmp(name, ERRORS[e].name) == 0) error = ERRORS[e].number;
  }
  if (!killing && error == 0) {
    fprintf(stderr, "faults: %s is no error that is known\n", name);
    return CANNOT;
  }
  record = fopen(argv[5], "we");
  if (record == NULL) give_up(argv[5]);
  process = fork();
  if (process < 0) give_up("fork");
  if (process == 0) {
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) give_up("ptrace");
    raise(SIGSTOP);
    filter();
    execv(argv[6], argv + 6);
    give_up(argv[6]);
  }
  code = watch(process);
  if (fclose(record) != 0) give_up(argv[5]);
  return code;
}
