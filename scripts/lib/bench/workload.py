"""What is mounted and used: directories that are made once and never change.

    layers/changes   hides and replaces some of what is below
    layers/data      a large file, a directory of 1,000 names, a Python package
    layers/tree-b    half of the folders of a generated tree
    layers/tree-a    the other half
    layers/repo      a git repository
    layers/debian    a minimal Debian, and a package to install in it
    stacks/N/0..N-1  one and the same directory of 1,000 files, dealt out to N layers

All whiteouts are the kernel's (a device 0:0, ``trusted.overlay.opaque``).
"""

import hashlib
import os
import random
import shutil
import sysconfig
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.support.images import debian_root, run

# Another number makes work-loads of earlier versions invalid.
VERSION = 1

LAYERS = ("changes", "data", "tree-b", "tree-a", "repo", "debian")
LISTED = 1000
FOLDERS = 10  # in each of the 100 folders of the tree
OPAQUE = Path("99/9")
HIDDEN, REPLACED = 50, 97  # one file of so many
PACKAGE = "bash-completion"  # 900 small files, and needs nothing that is not there


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is of everything."""

    tree: int = 100_000
    data: int = 256 << 20
    repo: int = 5_000
    stacks: tuple[int, ...] = (1, 10, 100, 500)


@dataclass(frozen=True, slots=True)
class Workload:
    """A work-load on the disk, and how much of it each row uses."""

    folder: Path
    size: Size

    @property
    def layers(self) -> Path:
        """The folder with the layers in it."""
        return self.folder / "layers"

    def stack(self, count: int) -> Path:
        """The folder with *count* layers, the topmost is ``0``."""
        return self.folder / "stacks" / str(count)

    @property
    def tree_inodes(self) -> int:
        """Files and directories that the tree shows."""
        files = sum(
            1
            for at, path in enumerate(_tree_paths(self.size.tree))
            if at % HIDDEN and path.parent != OPAQUE
        )
        return files + 1 + 100 * FOLDERS + 100 + 1

    def tree_names(self) -> list[str]:
        """Files of the tree that no layer hides, in disorder: a fifth of it, but the same ever."""
        names = [
            f"tree/{path}"
            for at, path in enumerate(_tree_paths(self.size.tree))
            if at % 5 == 1 and path.parent != OPAQUE
        ]
        random.Random(1).shuffle(names)
        return names


def prepared(
    work: Path, size: Size, say: Callable[[str], object], *, debian: Path | None = None
) -> Workload:
    """The work-load of *size* below *work*; what an earlier run has made is used again.

    *debian* is a tar of a root that is there already.
    """
    key = hashlib.sha256(f"{VERSION} {sorted(asdict(size).items())}".encode()).hexdigest()[:12]
    made = Workload(work / "workloads" / key, size)
    if not (made.folder / "complete").exists():
        shutil.rmtree(made.folder, ignore_errors=True)
        made.folder.mkdir(parents=True)
        _make(made, say, debian)
        os.sync()
        (made.folder / "complete").touch()
    return made


def _make(made: Workload, say: Callable[[str], object], debian: Path | None) -> None:
    size = made.size
    for layer in LAYERS:
        (made.layers / layer).mkdir(parents=True)
    say("making a Debian root")
    _make_debian(made.layers / "debian", made.folder, debian)
    say(f"making a tree of {size.tree:,} files, a file of {size.data >> 20} MB and a repository")
    _make_tree(made.layers, size.tree)
    _make_data(made.layers / "data", size)
    _make_repo(made.layers / "repo/repo", size.repo)
    _make_changes(made.layers / "changes", size)
    for count in size.stacks:
        _make_stack(made.stack(count), count)


def _make_debian(layer: Path, scratch: Path, archive: Path | None) -> None:
    (layer / "debian").mkdir()
    found = archive or debian_root(scratch)
    run("tar", "--numeric-owner", "--xattrs", "-C", layer / "debian", "-xf", found)
    if archive is None:
        found.unlink()
    packages = layer / "debian/srv"
    # The mirror is the one that the root is made from, so the package fits.
    run("apt-get", "-o", "APT::Sandbox::User=root", "download", PACKAGE, cwd=packages)
    (file,) = packages.glob("*.deb")
    file.rename(packages / "package.deb")


def _tree_paths(count: int) -> list[Path]:
    """100 folders of 10 folders of files."""
    return [
        Path(f"{at % 100:02}/{at // 100 % FOLDERS}/file-{at // 100 // FOLDERS}")
        for at in range(count)
    ]


def _make_tree(layers: Path, count: int) -> None:
    random_ = random.Random(2)
    content = random_.randbytes(1 << 15).hex().encode()
    for at, path in enumerate(_tree_paths(count)):
        layer = "tree-a" if at // 100 % FOLDERS % 2 else "tree-b"
        file = layers / layer / "tree" / path
        if at < 100 * FOLDERS:
            file.parent.mkdir(parents=True)
        # As in file systems: most are small, few are large.
        length = min(int(random_.lognormvariate(6.5, 1.2)), len(content))
        file.write_bytes(content[:length])


def _make_data(layer: Path, size: Size) -> None:
    with (layer / "data").open("wb") as file:
        block = random.Random(3).randbytes(1 << 20)
        for _ in range(size.data >> 20):
            file.write(block)
    (layer / "list").mkdir()
    for at in range(LISTED):
        (layer / f"list/name-{at:04}").touch()
    # What this runs in: a thousand modules, some of them large shared libraries.
    shutil.copytree(
        sysconfig.get_path("platlib"),
        layer / "python",
        symlinks=True,
        ignore=shutil.ignore_patterns("*.pth", "__editable__*"),
    )


def _make_repo(folder: Path, count: int) -> None:
    random_ = random.Random(4)
    for at in range(count):
        file = folder / f"part-{at % 20}/section-{at // 20 % 10}/text-{at}"
        if at < 200:
            file.parent.mkdir(parents=True)
        file.write_text("".join(f"{random_.random()}\n" for _ in range(random_.randrange(200))))
    for words in (
        ["init", "--quiet"],
        ["add", "."],
        [
            *("-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit"),
            *("--quiet", "--message=all"),
        ],
    ):
        run("git", "-C", folder, *words)


def _make_changes(layer: Path, size: Size) -> None:
    for at, path in enumerate(_tree_paths(size.tree)):
        file = layer / "tree" / path
        if path.parent == OPAQUE or (at % HIDDEN and at % REPLACED != 1):
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        if at % HIDDEN:
            file.write_text("replaced\n")
        else:
            _hide(file)
    opaque = layer / "tree" / OPAQUE
    opaque.mkdir(parents=True)
    os.setxattr(opaque, "trusted.overlay.opaque", b"y")
    (opaque / "alone").write_text("nothing else is left here\n")
    for name in ("usr/share", "etc"):
        (layer / "debian" / name).mkdir(parents=True)
    # Nothing that packages are installed into: unionfs-fuse shows a device there.
    _hide(layer / "debian/usr/share/lintian")
    (layer / "debian/etc/motd").write_text("replaced\n")


def _hide(path: Path) -> None:
    os.mknod(path, 0o020000, os.makedev(0, 0))


def _make_stack(folder: Path, count: int) -> None:
    for layer in range(count):
        (folder / str(layer) / "dir").mkdir(parents=True)
    for at in range(LISTED):
        (folder / str(at % count) / f"dir/name-{at:04}").write_text(f"{at}\n")
