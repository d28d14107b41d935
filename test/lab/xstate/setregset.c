/*
 * Lets user-mode-linux 6.12 run on processors with AMX. It keeps 2696 bytes of a process's
 * extended state, enough for AVX-512, and gives that many back; but PTRACE_SETREGSET takes
 * nothing less than the whole (EFAULT, arch/x86/kernel/fpu/regset.c, xstateregs_set). So the
 * whole is read first, and what user-mode-linux knows of is laid over it. The rest, AMX's
 * tiles, stays what it is: nothing has it that has not asked arch_prctl for it.
 *
 * Preloaded into linux.uml. It is in no position to allocate, or to use much of its stack.
 */
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char whole[64 << 10]; /* one thread makes these calls, and not from signal handlers */

static long set_xstate(pid_t pid, void *addr, const struct iovec *known)
{
	struct iovec all = { whole, sizeof(whole) };
	long err = syscall(SYS_ptrace, PTRACE_GETREGSET, pid, addr, &all);

	if (err)
		return err;
	if (known->iov_len < all.iov_len)
		memcpy(whole, known->iov_base, known->iov_len);
	else
		memcpy(whole, known->iov_base, all.iov_len);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, addr, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list args;
	pid_t pid;
	void *addr, *data;
	long word, err;

	va_start(args, request);
	pid = va_arg(args, pid_t);
	addr = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);

	switch (request) {
	case PTRACE_SETREGSET:
		if ((long)addr == NT_X86_XSTATE)
			return set_xstate(pid, addr, data);
		break;
	case PTRACE_PEEKTEXT: /* these return the word, as the C library has it */
	case PTRACE_PEEKDATA:
	case PTRACE_PEEKUSER:
		err = syscall(SYS_ptrace, request, pid, addr, &word);
		if (err)
			return err;
		errno = 0;
		return word;
	default:
		break;
	}
	return syscall(SYS_ptrace, request, pid, addr, data);
}
