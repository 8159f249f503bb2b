"""Stopping a process before each of its system calls, or ending it there; see ptrace(2)."""

import ctypes
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long

# linux/ptrace.h
_TRACEME, _SYSCALL, _SETOPTIONS = 0, 24, 0x4200
_TRACESYSGOOD, _EXITKILL = 1, 1 << 20
_SYSCALL_STOP = signal.SIGTRAP | 0x80


def _ptrace(request: int, pid: int, data: int = 0) -> None:
    done = _libc.ptrace(
        ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(0), ctypes.c_void_p(data)
    )
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def before_each_call(act: Callable[[], object]) -> Iterator[None]:
    """Run *act* in a child, which stands still before a system call whenever this yields.

    What is on the disk then is what a kill at this moment would leave.  An AssertionError
    when *act* fails.
    """
    child = _fork()
    if not child:
        _run_traced(lambda: None, act)
    running = True
    try:
        _await_start(child)
        before = False
        while running:
            _ptrace(_SYSCALL, child)
            _, status = os.waitpid(child, 0)
            if os.WIFEXITED(status):
                running = False
                assert os.WEXITSTATUS(status) == 0, "it failed, see stderr"
                return
            assert os.WIFSTOPPED(status), f"killed by another: {status:#x}"
            assert os.WSTOPSIG(status) == _SYSCALL_STOP, f"stopped by a signal: {status:#x}"
            # Each call stops it twice: before, and after.
            before = not before
            if before:
                yield
    finally:
        if running:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def killed(prepare: Callable[[], object], act: Callable[[], object], call: int) -> bool:
    """Run *prepare* and *act* in a process that is killed before a system call of *act*.

    *call* counts them from 0.  False when *act* came to its end before; an AssertionError
    when it fails.
    """
    child = _fork()
    if not child:
        _run_traced(prepare, act)
    _await_start(child)
    for _ in range(2 * call + 1):
        _ptrace(_SYSCALL, child)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "it failed, see stderr"
            return False
        assert os.WIFSTOPPED(status), f"killed by another: {status:#x}"
        assert os.WSTOPSIG(status) == _SYSCALL_STOP, f"stopped by a signal: {status:#x}"
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    return True


def _fork() -> int:
    with warnings.catch_warnings():
        # Idle threads of other tests hold nothing that the child needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _await_start(child: int) -> None:
    _, status = os.waitpid(child, 0)
    assert os.WIFSTOPPED(status), f"ended before it began: {status:#x}"
    _ptrace(_SETOPTIONS, child, _TRACESYSGOOD | _EXITKILL)


def _run_traced(prepare: Callable[[], object], act: Callable[[], object]) -> None:
    status = 1
    try:
        prepare()
        _ptrace(_TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        act()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)
