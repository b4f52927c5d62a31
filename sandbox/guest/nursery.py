"""A copy of the zygote that does nothing but make copies of itself.

A process that forks pays for each page that it writes to afterwards, and the zygote, which talks to
the host and watches, writes to hundreds. So where it can, it leaves the cloning to a copy of
itself, which waits and clones in a loop of machine code and touches nothing else: the zygote's own
pages are never shared with a program, and every program is copied from the same untouched memory.

Both share descriptors and one piece of memory, where the zygote puts a child's steps. Programs are
children of the zygote all the same (`CLONE_PARENT`), and let go of the shared memory before
anything foreign runs in them.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import struct
from collections.abc import Callable
from typing import NoReturn

from .steps import CALL, Steps, load  # noqa: TID251

CLONE_FILES, CLONE_PARENT = 0x00000400, 0x00008000
BYTES = 1 << 16
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_ROWS_AT, _MAIN_AT, _PIDFD_AT, _CALL_AT = 64, 8, 16, 24

# long serve(long *area, long asked, long answers)
#
# The area: a count or a pid, the child's function, a pidfd, `CALL`; rows at 64.
#
#     push rbx; push rbp; push r12; push r13; push r14; push r15
#     mov r13, rdi; mov r14, rsi; mov r15, rdx
# 1:  read(asked, area, 8); cmp rax, 8; jne 7f        the number of steps
#     mov rbp, [r13]; lea rbx, [r13+64]; xor r12d, r12d
# 2:  mov rax, [rbx]; mov rdi, [rbx+8]; mov rsi, [rbx+16]; mov rdx, [rbx+24]
#     mov r10, [rbx+32]; mov r8, [rbx+40]; mov r9, [rbx+48]
#     syscall
#     test r12, r12; jne 3f
#     test rax, rax; jne 6f                           the first is the clone
#     mov r14, [r13+8]; mov r15, [r13+24]             the child's function; the area goes
# 3:  cmp rax, -4095; jae 4f
#     inc r12; add rbx, 64; cmp r12, rbp; jb 2b
#     sub rsp, 8; mov rdi, r14; call r15; jmp 7f      it never returns
# 4:  neg rax; shl r12, 16; or rax, r12; neg rax      -(step << 16 | errno)
#     pop r15; pop r14; pop r13; pop r12; pop rbp; pop rbx; ret
# 6:  mov [r13], rax; write(answers, area, 8); jmp 1b
# 7:  exit_group(0)
_X86_64 = bytes.fromhex(
    "535541544155415641574989fd4989f64989d731c04c89f74c89eeba080000000f054883f8080f858d000000"
    "498b6d00498d5d404531e4488b03488b7b08488b7310488b53184c8b53204c8b43284c8b4b300f054d85e475"
    "0d4885c075404d8b75084d8b7d18483d01f0ffff731849ffc44883c3404939ec72bd4883ec084c89f741ffd7"
    "eb3348f7d849c1e4104c09e048f7d8415f415e415d415c5d5bc349894500b8010000004c89ff4c89eeba0800"
    "00000f05e95affffff31ffb8e70000000f05"
)
_serve = load(_X86_64, 3)


class Nursery:
    """The copy, and how to ask it for a child. Make it when the zygote is ready, by `start`.

    Attributes:
        address: of the shared memory.
        pid: of the copy.
    """

    def __init__(self) -> None:
        self._area = mmap.mmap(-1, BYTES, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._area))
        self.pid = 0
        self._answers = self._ask = -1
        self._poll = select.poll()

    @classmethod
    def start(cls, fail: Callable[[int], NoReturn]) -> Nursery | None:
        """Make the copy.

        Args:
            fail: what a child does where a step failed, given `-(step << 16 | errno)`.

        Returns:
            None where this machine has none.
        """
        if _serve is None:
            return None
        made = cls()
        asked, made._ask = os.pipe()
        made._answers, answers = os.pipe()
        copy = Steps(CLONE_FILES)
        copy.add("prctl", _PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        made.pid, problem = copy.seal().clone()
        if made.pid == 0:
            if problem:
                os._exit(1)
            fail(_serve(made.address, asked, answers))
        struct.pack_into("Q", made._area, _CALL_AT, CALL)
        for fd in (made._answers, copy.pidfd):
            made._poll.register(fd, select.POLLIN)
        return made

    def steps(self, flags: int) -> Steps:
        """Steps of a child that is to be made here, without any yet."""
        return Steps(flags | CLONE_PARENT, self.address + _PIDFD_AT)

    def clone(self, sealed: Steps, main: Callable[[], NoReturn]) -> tuple[int, int]:
        """A child of this process, which does the steps and then calls `main`.

        Args:
            sealed: the steps.
            main: a function that was there before the copy was made.

        Returns:
            Its process id, and a pidfd that the caller closes.

        Raises:
            OSError: there is no child.
        """
        packed = sealed.packed(self.address + _ROWS_AT)
        self._area[_ROWS_AT : _ROWS_AT + len(packed)] = packed
        struct.pack_into("Q", self._area, _MAIN_AT, id(main))
        os.write(self._ask, struct.pack("q", sealed.count))
        if self._poll.poll() != [(self._answers, select.POLLIN)]:
            raise OSError("the zygote's copy has ended")
        pid = struct.unpack("q", os.read(self._answers, 8))[0]
        if pid < 0:
            raise OSError(-pid, f"clone: {os.strerror(-pid)}")
        return pid, struct.unpack_from("i", self._area, _PIDFD_AT)[0]
