"""Whole jobs: what people do on such a mount."""

import sys
import time
from collections.abc import Iterator

from scripts.lib.bench.results import Mode, Sample
from scripts.lib.bench.rows import BYTES, MILLISECONDS, SECONDS, Row, Scene, Settings
from scripts.lib.bench.session import Session

MODULES = (
    "mypy.main, mypy.build, pip._internal.cli.main, hypothesis.strategies, pytest, trio, "
    "rich.console"
)
DEBIAN = "debian"

FIND_COLD = Row("find cold", SECONDS, "find(1) in a Debian root, on a fresh mount")
FIND_WARM = Row("find warm", SECONDS, "the same again")
TREE_COLD = Row(
    "find 100,000 cold", SECONDS, "find(1) with sizes in the generated tree, on a fresh mount"
)
TREE_WARM = Row("find 100,000 warm", SECONDS, "the same again")
MEMORY = Row(
    "memory per inode",
    BYTES,
    "by how much the daemon's Pss has grown after that, for each file and directory",
)
TAR_COLD = Row("tar cold", SECONDS, "tar(1) of a Debian root into a pipe, on a fresh mount")
TAR_WARM = Row("tar warm", SECONDS, "the same again")
GREP = Row("grep -r", SECONDS, "grep(1) for what is not there in /usr/share of Debian, fresh mount")
GIT = Row("git status", SECONDS, "in a repository whose index knows the files already, fresh mount")
READ_COLD = Row("sequential read cold", SECONDS, "dd(1) of a file in blocks of 1 MiB, fresh mount")
READ_WARM = Row("sequential read warm", SECONDS, "the same again")
WRITE = Row("write", SECONDS, "dd(1) into a new file of the same size (256 MB)")
RANDOM = Row("random 4k reads", SECONDS, "pread(2) of any pages of the file, with read-ahead")
SCAN = Row("mmap scan", SECONDS, "a byte of each page of the file by mmap(2), fresh mount")
CREATES = Row("creates", SECONDS, "2,000 new files of 1 KB in one directory")
REMOVE = Row("rm -rf", SECONDS, "of 2,000 files that were made on the same mount")
STORM = Row(
    "stat storm", SECONDS, "lstat(2) of 20,000 files of the tree in disorder, three times over"
)
CHOWN = Row(
    "chown -R", SECONDS, "of 10,000 lower files, and of the 110 directories that they are in"
)
IMPORT = Row("import", SECONDS, f"python3 -c 'import {MODULES}': 1,000 modules, fresh mount")
APT = Row("apt-get install", SECONDS, "of a package of 900 files, by chroot(8) into the Debian")
CLIENTS = Row("four clients", SECONDS, "four times tar(1) of a Debian root at once, fresh mount")
IDLE = Row("idle", MILLISECONDS, "processor time of the daemon while nobody asks, after some work")

_TAR = ("bash", "-c", 'set -o pipefail; tar -cf - "$1" | cat >/dev/null', "tar", DEBIAN)
_OWNED = [f"tree/{number:02}" for number in range(10)]


def _find(on: Session, _settings: Settings) -> Iterator[Sample]:
    yield on.timed(FIND_COLD.name, ["find", DEBIAN])
    yield on.timed(FIND_WARM.name, ["find", DEBIAN])


def _find_tree(on: Session, settings: Settings) -> Iterator[Sample]:
    before, _ = on.memory()
    command = ["find", "tree", "-printf", "%s %p\n"]
    yield on.timed(TREE_COLD.name, command)
    after, _ = on.memory()
    yield on.timed(TREE_WARM.name, command)
    if before is not None and after is not None:
        yield Sample(MEMORY.name, (after - before) / settings.workload.tree_inodes)


def _tar(on: Session, _settings: Settings) -> Iterator[Sample]:
    yield on.timed(TAR_COLD.name, _TAR)
    yield on.timed(TAR_WARM.name, _TAR)


def _grep(on: Session, _settings: Settings) -> Iterator[Sample]:
    command = ["grep", "-rF", "what is in no file", f"{DEBIAN}/usr/share"]
    # grep(1): 1 when nothing is found.
    yield on.timed(GREP.name, command, accept=(1,), environment={"LC_ALL": "C"})


def _git_before(on: Session, _settings: Settings) -> None:
    on.do("git", "-C", "repo", "status", "--porcelain")


def _git(on: Session, _settings: Settings) -> Iterator[Sample]:
    yield on.timed(GIT.name, ["git", "-C", "repo", "status", "--porcelain"])


def _read(on: Session, _settings: Settings) -> Iterator[Sample]:
    command = ["dd", "if=data", "of=/dev/null", "bs=1M"]
    yield on.timed(READ_COLD.name, command)
    yield on.timed(READ_WARM.name, command)


def _write(on: Session, settings: Settings) -> Iterator[Sample]:
    count = settings.workload.size.data >> 20
    command = ["dd", "if=/dev/zero", "of=written", "bs=1M", f"count={count}"]
    sample = on.timed(WRITE.name, command)
    on.do("rm", "written")  # so that the disk need not hold one of each round
    yield sample


def _random(on: Session, settings: Settings) -> Iterator[Sample]:
    yield on.called(RANDOM.name, "random", "data", 4096, settings.calls, whole=True)


def _scan(on: Session, _settings: Settings) -> Iterator[Sample]:
    yield on.called(SCAN.name, "scan", "data", whole=True)


def _create(on: Session, settings: Settings) -> Iterator[Sample]:
    on.do("mkdir", "new")
    yield on.called(CREATES.name, "create", "new", settings.creates, 1024, whole=True)


def _remove(on: Session, settings: Settings) -> Iterator[Sample]:
    on.do("mkdir", "new")
    on.called(CREATES.name, "create", "new", settings.creates, 1024)
    yield on.timed(REMOVE.name, ["rm", "-rf", "new"])


def _storm(on: Session, settings: Settings) -> Iterator[Sample]:
    yield on.called(STORM.name, "stat", 3, names=settings.workload.tree_names(), whole=True)


def _chown(on: Session, _settings: Settings) -> Iterator[Sample]:
    yield on.timed(CHOWN.name, ["chown", "-R", "1234:1234", *_OWNED])


def _import(on: Session, _settings: Settings) -> Iterator[Sample]:
    code = f"import sys; sys.path.insert(0, 'python'); import {MODULES}"
    yield on.timed(IMPORT.name, [sys.executable, "-I", "-S", "-B", "-c", code])


def _apt(on: Session, _settings: Settings) -> Iterator[Sample]:
    command = [
        *("chroot", DEBIAN, "apt-get", "install", "--yes", "--no-install-recommends"),
        # It needs no other package, and reading of 60,000 is not what is measured.
        *("-o", "Dir::Etc::SourceList=/dev/null", "-o", "APT::Sandbox::User=root"),
        "/srv/package.deb",
    ]
    environment = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C", "PATH": _PATH}
    yield on.timed(APT.name, command, environment=environment)


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def _clients(on: Session, _settings: Settings) -> Iterator[Sample]:
    yield on.timed_together(CLIENTS.name, _TAR, 4)


def _idle(on: Session, settings: Settings) -> Iterator[Sample]:
    on.do("find", "list")
    # The daemon may still have something to put away.
    time.sleep(min(settings.idle_seconds, 0.5))
    before = on.cpu()
    time.sleep(settings.idle_seconds)
    after = on.cpu()
    if before is not None and after is not None:
        yield Sample(IDLE.name, (after - before) * 1e3, after - before, *on.memory())


SCENES = (
    Scene((FIND_COLD, FIND_WARM), _find),
    Scene((TREE_COLD, TREE_WARM, MEMORY), _find_tree),
    Scene((TAR_COLD, TAR_WARM), _tar),
    Scene((GREP,), _grep),
    Scene((GIT,), _git, prepare=_git_before),
    Scene((READ_COLD, READ_WARM), _read),
    Scene((WRITE,), _write, writes=True),
    Scene((RANDOM,), _random),
    Scene((SCAN,), _scan),
    Scene((CREATES,), _create, writes=True),
    Scene((STORM,), _storm),
    Scene((CHOWN,), _chown, writes=True),
    Scene((IMPORT,), _import),
    Scene((APT,), _apt, writes=True),
    # Behind all that make files, which it would slow down (see Rounds).
    Scene((REMOVE,), _remove, writes=True),
    Scene((CLIENTS,), _clients, modes=(Mode.UNPINNED,)),
    Scene((IDLE,), _idle, modes=(Mode.UNPINNED,), daemons_only=True),
)
