"""Mounts of a plain user, into which nobody else may look."""

import os
import stat
import sys
import textwrap
from pathlib import Path

from tests.support.union import REPOSITORY, Stack, run

# nobody, whom every machine has: fusermount3 looks the user up.
USER = 65534

# The process becomes the user by itself, after importing: the interpreter and the packages may
# lie where only root goes.
_SESSION = """
import ctypes, errno, fcntl, os, stat, subprocess, sys
import encodings.idna, runpy, linecache  # what is imported late
from contextlib import contextmanager
from pathlib import Path
import overlayfs.fuse.session
from overlayfs.cli import mountprogram
{imports}
from tests.support.callers import outcome
from tests.support.tree import names

base, lowers = Path(sys.argv[1]), sys.argv[2]
mnt, upper, work = base / "mnt", base / "upper", base / "work"
os.setgroups([])
os.setresgid({user}, {user}, {user})
os.setresuid({user}, {user}, {user})
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: /proc/self belongs to the user then
os.umask(0o022)


@contextmanager
def mounted(*options):
    words = [f"lowerdir={{lowers}}", f"upperdir={{upper}}", f"workdir={{work}}", *options]
    sys.argv = ["pyoverlayfs", "-o", ",".join(words), str(mnt)]
    mountprogram.main()
    try:
        yield mnt
    finally:
        subprocess.run(["fusermount3", "-u", mnt], check=True)
        fd = os.open(upper, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)  # the daemon's for as long as it lives
        os.close(fd)


{script}
"""


def as_plain_user(stack: Stack, script: str, *, prepare: str = ":", imports: str = "") -> str:
    """What the Python *script* prints, run by a plain user who has ``mounted()`` for *stack*.

    What changes is given to that user; the lower directories stay as they are.  *imports* are
    lines for what the script needs of the package.  An AssertionError with the traceback when
    the script fails.
    """
    for folder in (stack.base, *stack.base.parents):
        if folder.is_relative_to("/tmp/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    run("chown", "-R", "-h", f"{USER}:{USER}", stack.upper, stack.work, stack.mountpoint)
    node = stack.base / "fuse"
    if not node.exists():
        os.mknod(node, stat.S_IFCHR, Path("/dev/fuse").stat().st_rdev)
        node.chmod(0o666)
    shell = f'mount --bind "{node}" /dev/fuse && {prepare} && exec "$@"'
    session = _SESSION.format(user=USER, script=textwrap.dedent(script), imports=imports)
    return run(
        *("env", f"PYTHONPATH={REPOSITORY}"),
        *("unshare", "--mount", "sh", "-c", shell, "sh"),
        *(sys.executable, "-c", session, stack.base),
        ":".join(str(lower) for lower in stack.lowers),
    ).strip()
