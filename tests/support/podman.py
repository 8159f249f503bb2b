"""podman and buildah with a machine of their own, as root or as a plain user with subuids.

The machine is a mount and a PID namespace: what is mounted or started there ends with it.
"""

import dataclasses
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.archives import Made, from_1_10, write_tar
from tests.support.images import busybox
from tests.support.union import PATIENCE, REPOSITORY

USER = 31_000
SUBIDS = 200_000
IMAGE = "localhost/layers:latest"
ARCHIVE = "image.tar"

# Where the machine's folder is mounted in it, whatever may not be entered above it outside.
HERE = Path("/mnt")

# What containers need where the cgroups are hybrid and there is no network.
LIMITS = (
    *("--cgroups=disabled", "--network=none", "--pull=never"),
    *("--ulimit=nofile=1024", "--ulimit=nproc=1024"),
)


@dataclass(frozen=True, slots=True)
class Containers:
    """The two tools on ``pyoverlayfs``, on the machine whose namespaces *holder* keeps.

    *folder* is what the machine has at `HERE`, for root; *prefix* becomes its user.
    """

    holder: int
    folder: Path
    prefix: tuple[str, ...]
    rootless: bool
    storage: tuple[str, ...]

    def podman(self, *arguments: str | Path) -> str:
        """What podman prints; an AssertionError with its stderr when it fails."""
        return self.ok("podman", *self.storage, *arguments)

    def buildah(self, *arguments: str | Path) -> str:
        """What buildah prints, without the newline."""
        return self.ok("buildah", *self.storage, *arguments).strip()

    def run(self, image: str, script: str, *options: str | Path) -> str:
        """What the shell *script* prints in a container of its own that is removed afterwards."""
        return self.podman("run", "--rm", *LIMITS, *options, image, "sh", "-ec", script)

    @contextmanager
    def container(self, image: str, name: str, *options: str | Path) -> Iterator[str]:
        """A running container, which does nothing by itself; removed at the end."""
        self.podman("run", "--detach", f"--name={name}", *LIMITS, *options, image, *WAITING)
        try:
            yield name
        finally:
            self.podman("rm", "--force", "--time=0", name)

    def inside(self, name: str, script: str, *options: str) -> str:
        """What the shell *script* prints in the running container *name*."""
        return self.podman("exec", *options, name, "sh", "-ec", script)

    def stop(self, name: str) -> None:
        """Stop a container; its file system is unmounted when this returns."""
        self.podman("stop", "--time=0", name)

    def beside(self, script: str, *arguments: str | Path) -> str:
        """What a shell *script* prints that runs beside the containers and sees their mounts.

        It calls podman as ``podman``, as the root that podman has.
        """
        words = " ".join(self.storage)
        prepared = f'podman() {{ command podman {words} "$@"; }}\n{script}'
        enter = ("podman", *self.storage, "unshare") if self.rootless else ()
        return self.ok(*enter, "sh", "-ec", prepared, "sh", *arguments)

    def changes(self, name: str) -> set[str]:
        """What ``podman diff`` tells of a container or an image, without what podman makes."""
        lines = self.podman("diff", name).splitlines()
        return {line for line in lines if not line[2:].startswith(OF_PODMAN)}

    def empty(self, name: str) -> Path:
        """A new empty directory of the user's beside the storage, as the machine calls it."""
        made = self.folder / "tmp" / name
        made.mkdir()
        shutil.chown(made, USER if self.rootless else 0, USER if self.rootless else 0)
        return HERE / "tmp" / name

    def ok(self, *command: str | Path) -> str:
        """What *command* prints; an AssertionError with its stderr when it fails."""
        done = self.call(*command)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def call(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run *command* on the machine, as the user who has the containers."""
        return subprocess.run(
            [*self.prefix, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=2 * PATIENCE,
            check=False,
        )

    def by(self, program: str) -> "Containers":
        """The same storage with another mount program."""
        return dataclasses.replace(self, storage=(*self.storage[:2], *overlay(program=program)))

    def elsewhere(self, name: str, *options: str) -> "Containers":
        """The same with a storage of its own, with the image `IMAGE`, used with *options*."""
        places = (f"--root={self.empty(name)}", f"--runroot={HERE}/run/{name}")
        made = dataclasses.replace(self, storage=(*places, *options))
        made.podman("load", "--quiet", f"--input={HERE}/{ARCHIVE}")
        return made


def overlay(*options: str, program: str | Path = "") -> tuple[str, ...]:
    """The options that choose the mount program, ours or another, and more for the storage."""
    chosen = (f"mount_program={program or installed()}", *options)
    words = (f"--storage-opt=overlay.{option}" for option in chosen)
    return ("--storage-driver=overlay", *words)


# What podman makes in every container.
OF_PODMAN = ("/etc", "/run", "/dev", "/proc", "/sys")

# A container's first process takes no signal that it does not ask for.
WAITING = ("sh", "-c", "trap exit TERM; while :; do sleep 1000 & wait; done")


def installed() -> Path:
    """The mount program as it is installed."""
    return Path(sys.executable).with_name("pyoverlayfs")


@contextmanager
def machine(
    folder: Path, image: Path, *options: str, rootless: bool, subids: bool = True
) -> Iterator[Containers]:
    """A machine with the saved *image* in its storage; it keeps its files in *folder*.

    *options* are storage options of the overlay; the user of a *rootless* one has *subids*.
    """
    owner = USER if rootless else 0
    shutil.copy(image, folder / ARCHIVE)
    (folder / ARCHIVE).chmod(0o644)
    for name in ("storage", "run", "home", "tmp", "keep"):
        (folder / name).mkdir()
        os.chown(folder / name, owner, owner)
    folder.chmod(0o755)
    lines = [
        # crun takes one kind of cgroups or the other.
        "if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi",
        "mount -t tmpfs -o mode=755 run /run",
        f"mount --bind '{folder}' {HERE}",
        "mount --make-rshared /",
    ]
    if rootless:
        lines[-1:-1] = [*_for_a_user(folder, subids), *_reachable()]
    script = "\n".join(["set -e", *lines, "echo ready", "cat", ":"])
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with subprocess.Popen(
        [*command, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == b"ready\n", script
            places = (f"--root={HERE}/storage", f"--runroot={HERE}/run/storage")
            storage = (*places, *overlay(*options))
            made = Containers(holder.pid, folder, _prefix(holder.pid, owner), rootless, storage)
            made.podman("load", "--quiet", f"--input={HERE}/{ARCHIVE}")
            yield made
        finally:
            # All that was started there dies with its first process.
            holder.stdin.close()


def _prefix(holder: int, owner: int) -> tuple[str, ...]:
    names = f"/proc/{holder}/ns"
    return (
        *("nsenter", f"--mount={names}/mnt", f"--pid={names}/pid_for_children"),
        *("setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups"),
        *("env", "--ignore-environment"),
        *(f"HOME={HERE}/home", f"TMPDIR={HERE}/tmp", f"XDG_RUNTIME_DIR={HERE}/run"),
        *("LANG=C.UTF-8", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"),
        *(f"PYTHONPATH={REPOSITORY}", "PYTHONDONTWRITEBYTECODE=1"),
    )


def _for_a_user(folder: Path, subids: bool) -> Iterator[str]:
    """What makes a user of uid `USER` known, with a /dev/fuse and perhaps subuids."""
    ids = f"tester:{SUBIDS}:65536\n" if subids else ""
    account = {
        "passwd": f"tester:x:{USER}:{USER}::{HERE}/home:/bin/sh\n",
        "group": f"tester:x:{USER}:\n",
        "subuid": ids,
        "subgid": ids,
    }
    for name, line in account.items():
        there = Path("/etc", name)
        kept = there.read_text() if name in ("passwd", "group") else ""
        (folder / name).write_text(kept + line)
        if not there.exists():
            there.touch()
        yield f"mount --bind {HERE}/{name} {there}"
    os.mknod(folder / "fuse", 0o020000, Path("/dev/fuse").stat().st_rdev)
    (folder / "fuse").chmod(0o666)
    yield f"mount --bind {HERE}/fuse /dev/fuse"


def _reachable() -> Iterator[str]:
    """What lets a plain user reach the interpreter and what it imports, below root's home too."""
    wanted = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, REPOSITORY)}
    closed: dict[Path, list[Path]] = {}
    for path in sorted(wanted):
        for parent in reversed(path.parents):
            if not parent.stat().st_mode & 0o001:
                closed.setdefault(parent, []).append(path)
                break
    for parent, paths in closed.items():
        yield f"mount --rbind '{parent}' {HERE}/keep && mount -t tmpfs -o mode=755 open '{parent}'"
        for path in paths:
            yield f"mkdir -p '{path}'"
            yield f"mount --rbind '{HERE}/keep/{path.relative_to(parent)}' '{path}'"
        yield f"umount --lazy {HERE}/keep"


TOOLS = "podman buildah crun conmon newuidmap setpriv nsenter unshare pgrep getcap fusermount3"


def what_is_missing(*, rootless: bool) -> str:
    """Why this machine cannot run containers; empty if it can."""
    missing = " ".join(tool for tool in TOOLS.split() if shutil.which(tool) is None)
    if missing:
        return f"missing: {missing}"
    if not rootless:
        return ""
    ids = (f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    tried = subprocess.run(
        ["setpriv", *ids, "unshare", "--user", "true"], capture_output=True, text=True, check=False
    )
    return f"no user namespaces: {tried.stderr.strip()}" if tried.returncode else ""


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a layer; *data* is None for a directory, a symbolic link's target is a str."""

    name: str
    data: bytes | str | None = b""
    mode: int = 0o644
    owner: tuple[int, int] = (0, 0)
    hard: str = ""


def folder(name: str, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> Member:
    """A directory of a layer."""
    return Member(name, None, mode, owner)


def layer(members: Iterable[Member]) -> bytes:
    """The tar of a layer."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.mode, (info.uid, info.gid) = member.mode, member.owner
            info.mtime = 1_600_000_000
            match member.data:
                case None:
                    info.type = tarfile.DIRTYPE
                case str():
                    info.type, info.linkname = tarfile.SYMTYPE, member.data
                case _ if member.hard:
                    info.type, info.linkname = tarfile.LNKTYPE, member.hard
                case _:
                    info.size = len(member.data)
            tar.addfile(info, io.BytesIO(member.data) if isinstance(member.data, bytes) else None)
    return out.getvalue()


COMMANDS = """
awk cat chmod chown cp cut dd env find grep head id ln ls mkdir mkfifo mknod mv printf ps readlink
rm rmdir sed seq setpriv sh sha256sum sleep sort stat su sync tail tar test touch tr true truncate
uniq wc xargs
"""


def busybox_members() -> Iterator[Member]:
    """A root to run in: the static busybox with its commands, and two users."""
    yield folder("bin")
    yield Member("bin/busybox", busybox().read_bytes(), 0o755)
    for name in COMMANDS.split():
        yield Member(f"bin/{name}", "busybox")
    yield folder("etc")
    # Root has no password, so that su asks for none.
    yield Member("etc/passwd", b"root::0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
    yield Member("etc/group", b"root:x:0:\nuser:x:1000:\n")
    yield folder("root", 0o700)
    yield folder("tmp", 0o1777)
    yield folder("home")
    yield folder("home/user", 0o750, (1000, 1000))
    yield Member("home/user/note", b"mine\n", 0o600, (1000, 1000))


def image_archive(path: Path, layers: Sequence[Iterable[Member]], name: str = IMAGE) -> Path:
    """What ``podman load`` reads: an image with *layers*, base first."""
    made = Made(tuple(layer(each) for each in layers))
    return write_tar(path, from_1_10([(made, [name])]))


# To work in.  Sizes differ where one file may take the name of another: podman compares sizes and
# times, and sees no change when both are the same.
WORK_TREE = (
    *(folder("tree"), folder("tree/a"), folder("tree/a/sub"), Member("tree/a/sub/f", b"f" * 9000)),
    *(folder("tree/b"), folder("tree/b/deep"), Member("tree/b/deep/g", b"g\n")),
    *(folder("tree/c"), Member("tree/c/one", b"1\n"), Member("tree/c/two", b"2\n", 0o400)),
    *(folder("tree/d"), Member("tree/d/in", b"in\n")),
    *(folder("tree/owned", 0o2775, (1000, 50)), Member("tree/owned/suid", b"s", 0o4755)),
    Member("tree/owned/its", b"its\n", 0o640, (1000, 1000)),
    *(folder("tree/owned/sub", 0o700, (1001, 50)), Member("tree/owned/link", "its")),
    *(
        Member("tree/text", b"a line\n" * 2000),
        Member("tree/e", b"e\n"),
        Member("tree/x", b"the x\n"),
    ),
    *(Member("tree/y", b"y\n"), Member("tree/symlink", "a/sub"), Member("tree/dangling", "no")),
    *(Member("tree/one", b"linked\n"), Member("tree/two", hard="tree/one")),
    Member("tree/three", hard="tree/one"),
    *(folder("tree/mixed"), Member("tree/mixed/first", b"first\n")),
    *(folder("tree/kept"), Member("tree/kept/untouched", b"u\n")),
)

LAYERS = (
    (
        *busybox_members(),
        *(folder("opaque"), Member("opaque/old"), Member("opaque/kept", b"below")),
        *(folder("opaque/deep"), Member("opaque/deep/old")),
        *(folder("partly"), Member("partly/old"), folder("partly/deep")),
        *(Member("partly/deep/old"), Member("partly/deep/left", b"left")),
        *(folder("gone"), Member("gone/file"), Member("removed")),
        *(folder("again"), Member("again/old"), Member("again/now-a-dir")),
        *(folder("becomes-file"), Member("becomes-file/old")),
        *WORK_TREE,
        Member("suid", b"suid", 0o6755),
        Member("linked", b"linked", 0o640, (3, 4)),
        Member("linked-too", mode=0o640, owner=(3, 4), hard="linked"),
    ),
    (
        *(folder("opaque", 0o1775, (5, 6)), Member("opaque/.wh..wh..opq")),
        Member("opaque/kept", b"kept"),
        *(folder("partly"), Member("partly/.wh.old")),
        Member("partly/new", b"new", 0o600, (1000, 1000)),
        *(folder("partly/deep"), Member("partly/deep/.wh.old")),
        *(Member(".wh.gone"), Member(".wh.again"), Member(".wh.becomes-file")),
    ),
    (
        *(folder("opaque", 0o1775, (5, 6)), folder("opaque/deep")),
        Member("opaque/deep/third", b"third"),
        *(folder("again"), Member("again/now", b"now")),
        *(folder("again/now-a-dir"), Member("again/now-a-dir/in", b"in")),
        Member("becomes-file", b"file"),
        *(folder("tree"), folder("tree/mixed"), Member("tree/mixed/third", b"the third\n")),
        Member(".wh.removed"),
    ),
)
