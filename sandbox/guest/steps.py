"""A child that is cloned, and then makes a list of system calls before any Python runs in it.

A page that a process writes to after a fork is copied by the kernel, and interpreted Python writes
to hundreds of them: every reference count is one. So the way from the clone to the confined child
is an array of numbers that a loop of machine code walks over: it touches a handful of pages, which
makes the confined child cheaper than a bare `os.fork()`. Where there is no such loop (aarch64, or
memory that may not be made executable) the same array is walked in Python, with the same outcome.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import signal
import struct
from collections.abc import Callable
from typing import Any, NoReturn

CLONE_PIDFD = 0x00001000
AT_FDCWD = -100
_WIDTH = 8  # a number and seven places for arguments, of which the kernel takes six
_WORD = (1 << 64) - 1
_MACHINE = platform.machine()

# fmt: off
_NUMBERS = {
    "x86_64": {
        "write": 1, "close": 3, "clone": 56, "chdir": 80, "setsid": 112, "setresuid": 117,
        "setresgid": 119, "capset": 126, "prctl": 157, "mount": 165, "openat": 257, "munmap": 11,
        "dup3": 292, "prlimit64": 302, "close_range": 436, "landlock_create_ruleset": 444,
        "landlock_add_rule": 445, "landlock_restrict_self": 446, "sched_setaffinity": 203,
    },
    "aarch64": {
        "write": 64, "close": 57, "clone": 220, "chdir": 49, "setsid": 157, "setresuid": 147,
        "setresgid": 149, "capset": 91, "prctl": 167, "mount": 40, "openat": 56, "dup3": 24,
        "munmap": 215, "prlimit64": 261, "close_range": 436, "landlock_create_ruleset": 444,
        "landlock_add_rule": 445, "landlock_restrict_self": 446, "sched_setaffinity": 122,
    },
}.get(_MACHINE, {})
# fmt: on

# long walk(long (*steps)[8], long count, PyObject *main, PyObject *call(PyObject *))
#
#     push rbx; push rbp; push r12; push r13; push r14
#     mov rbx, rdi; mov rbp, rsi; mov r13, rdx; mov r14, rcx; xor r12d, r12d
# 1:  mov rax, [rbx]; mov rdi, [rbx+8]; mov rsi, [rbx+16]; mov rdx, [rbx+24]
#     mov r10, [rbx+32]; mov r8, [rbx+40]; mov r9, [rbx+48]
#     syscall
#     test r12, r12; jne 2f
#     test rax, rax; jne 4f           the first is the clone: its parent has done its part
# 2:  cmp rax, -4095; jae 3f
#     inc r12; add rbx, 64; cmp r12, rbp; jb 1b
#     xor eax, eax; test r13, r13; je 4f
#     mov rdi, r13; call r14; exit_group(0)                it never returns
# 3:  neg rax; shl r12, 16; or rax, r12; neg rax      -(step << 16 | errno)
# 4:  pop r14; pop r13; pop r12; pop rbp; pop rbx; ret
_X86_64 = bytes.fromhex(
    "53554154415541564889fb4889f54989d54989ce4531e4488b03488b7b08488b7310488b53184c8b53204c8b"
    "43284c8b4b300f054d85e475054885c07537483d01f0ffff732249ffc44883c3404939ec72c531c04d85ed74"
    "1c4c89ef41ffd631ffb8e70000000f0548f7d849c1e4104c09e048f7d8415e415d415c5d5bc3"
)

# PyDLL keeps the interpreter lock: between the clone and the last step nothing else may run.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# From machine code straight into Python: the way back through ctypes costs a child ten pages.
CALL = ctypes.cast(ctypes.pythonapi.PyObject_CallNoArgs, ctypes.c_void_p).value or 0


def load(code: bytes, arguments: int) -> Any:
    """Machine code of x86-64 as a function of so many numbers; None where it cannot be had."""
    if _MACHINE != "x86_64":
        return None
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=3)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        read_execute = 5
        if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(len(page)), read_execute):
            return None
    except OSError:
        return None
    kinds = [ctypes.c_void_p] + [ctypes.c_long] * (arguments - 1)
    function = ctypes.PYFUNCTYPE(ctypes.c_long, *kinds)(address)
    function.page = page  # type: ignore[attr-defined]
    return function


_walk = load(_X86_64, 4)


class Steps:
    """What a child does, in order, before it runs Python.

    The child is a copy of this process without what `os.register_at_fork` asks for: this process
    must have one thread only, whose locks are free.

    Args:
        flags: `CLONE_NEW*`, or 0.
    """

    def __init__(self, flags: int, pidfd_at: int = 0) -> None:
        self._pidfd = ctypes.c_int(-1)
        self._names: list[str] = []
        self._words: list[int] = []
        self._data: list[bytes] = []
        self._points: list[tuple[int, int]] = []  # which word is the address of what data
        self._sealed: dict[int, bytes] = {}
        self._array: Any = None
        pidfd_at = pidfd_at or ctypes.addressof(self._pidfd)
        self.add("clone", flags | CLONE_PIDFD | signal.SIGCHLD, 0, pidfd_at)

    @property
    def pidfd(self) -> int:
        """Descriptor of the latest child, in its parent, who closes it."""
        return self._pidfd.value

    @property
    def count(self) -> int:
        """How many steps there are, the clone included."""
        return len(self._names)

    def add(self, call: str, *arguments: int | bytes, what: str = "") -> None:
        """One more system call; the child is no more where it fails.

        Args:
            call: its name.
            arguments: numbers (addresses too), or bytes whose address is passed.
            what: names the step in an error, where `call` says too little.
        """
        words = [_NUMBERS[call]]
        for argument in arguments:
            if isinstance(argument, bytes):
                self._points.append((len(self._words) + len(words), len(self._data)))
                self._data.append(argument)
                argument = 0
            words.append(argument & _WORD)
        self._words += words + [0] * (_WIDTH - len(words))
        self._names.append(what or call)

    def seal(self) -> Steps:
        """Done with adding: it can be cloned from now on, often."""
        self._array = ctypes.create_string_buffer(len(self.packed(0)))
        ctypes.memmove(self._array, self.packed(ctypes.addressof(self._array)), len(self._array))
        return self

    def packed(self, address: int) -> bytes:
        """All steps and what they point to, as they must lie at `address`."""
        if address not in self._sealed:
            words, at = list(self._words), address + 8 * len(self._words)
            places = []
            for data in self._data:
                places.append(at)
                at += len(data) + 1 + -(len(data) + 1) % 8
            for word, number in self._points:
                words[word] = places[number]
            tail = b"".join(data + bytes(1 + -(len(data) + 1) % 8) for data in self._data)
            self._sealed[address] = struct.pack(f"{len(words)}Q", *words) + tail
        return self._sealed[address]

    def explain(self, result: int) -> str:
        """The step that failed, and why, of `-(step << 16 | errno)`."""
        step, number = divmod(-result, 1 << 16)
        return f"{self._names[step]}: {os.strerror(number)}"

    def clone(self, main: Callable[[], NoReturn] | None = None) -> tuple[int, int]:
        """Make a child and let it go through the steps.

        Args:
            main: what the child does after them.

        Returns:
            In the parent the child's process id and 0. In the child 0 and, where a step failed,
            what `explain` reads; nothing after it was done, nor is `main` then.

        Raises:
            OSError: there is no child.
        """
        if _walk:
            result = _walk(self._array, len(self._names), id(main) if main else 0, CALL)
        else:
            result = self._walk_slowly()
            if result == 0 and main:
                main()
        if result >= 0:
            return result, 0
        if -result < 1 << 16:
            raise OSError(-result, self.explain(result))
        return 0, result

    def _walk_slowly(self) -> int:
        for step in range(len(self._names)):
            row = struct.unpack_from("7Q", self._array, 8 * _WIDTH * step)
            result = int(_libc.syscall(*map(ctypes.c_ulong, row)))
            if result < 0:
                return -(step << 16 | ctypes.get_errno())
            if step == 0 and result > 0:
                return result
        return 0
