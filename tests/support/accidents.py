"""A store whose processes are killed at random, and what should be in it all the same.

Each accident is one command in a process of its own that ends at some step: before it opens,
renames, removes or locks the n-th file. Then the store is looked at: it must be as before the
command or as after it, and every image that is listed must be whole.
"""

import errno
import itertools
import os
import random
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from overlayfs import mounting
from overlayfs.archive.detect import open_image, opened_images
from overlayfs.errors import ImageInUse, MountFailed
from overlayfs.linux import locks
from overlayfs.mounting import MountOptions
from overlayfs.store.mounts import is_mounted
from overlayfs.store.removing import Pruning
from overlayfs.store.store import Store, StoredImage
from overlayfs.union.names import Format
from tests.store.conftest import BASE, UPPER, docker, oci
from tests.support.archives import Made, from_1_10, write_tar
from tests.support.layers import Shown, file, folder, shown, tar

STEPS = {"open", "os.rename", "os.mkdir", "os.symlink", "os.link", "os.remove", "os.rmdir",
         "os.utime", "os.chmod", "fcntl.flock", "os.setxattr", "os.scandir", "os.listdir",
         "os.fork"}  # fmt: skip

# What the exit code of a child says; a daemon that dies was killed, as its command was not.
_REFUSED, _DAEMON = 3, 4
_RESULTS = {0: "done", _REFUSED: "refused", _DAEMON: "killed"}

_OTHER_BASE = tar(folder("etc", 0o711), file("etc/old", b"another"), file("bin", b"B" * 9000))
_MANY = tar(folder("many"), *(file(f"many/{number}", b"%d" % number) for number in range(30)))

Trees = list[dict[bytes, Shown]]


@dataclass(frozen=True, slots=True)
class Known:
    """What a store lists: the id of each name, and all ids."""

    names: frozenset[tuple[str, str]] = frozenset()
    ids: frozenset[str] = frozenset()

    def called(self, names: Iterable[str], image: str) -> "Known":
        """*names* mean *image* now."""
        taken = set(names)
        kept = {(name, other) for name, other in self.names if name not in taken}
        return Known(frozenset(kept | {(name, image) for name in taken}), self.ids | {image})

    def without(self, names: Iterable[str]) -> "Known":
        """The names are gone, their images are not."""
        gone = set(names)
        kept = frozenset(pair for pair in self.names if pair[0] not in gone)
        return Known(kept, self.ids)

    def names_of(self, image: str) -> list[str]:
        """What the image is called."""
        return sorted(name for name, other in self.names if other == image)

    def only(self, images: Iterable[str]) -> "Known":
        """Other images than these are gone."""
        stay = frozenset(images) & self.ids
        return Known(frozenset(pair for pair in self.names if pair[1] in stay), stay)


@dataclass(slots=True)
class Archive:
    """A file of images; the names and the id of each, in order, and its trees by id."""

    path: Path
    images: list[tuple[tuple[str, ...], str]]
    trees: dict[str, Trees]


def archives(base: Path) -> list[Archive]:
    """Files with images that share layers, and a name: two by other tools, two of docker's."""
    several = [
        (Made((BASE, tar(file("one")))), ["m:1"]),
        (Made((BASE, _MANY, tar(file("two")))), ["m:2", "m:latest"]),
    ]
    paths = [
        oci(base / "first", BASE, UPPER, name="a:1"),
        oci(base / "moves", _OTHER_BASE, UPPER, name="a:1"),
        docker(base / "docker.tar", BASE, _MANY, name="b:1"),
        write_tar(base / "several.tar", from_1_10(several)),
    ]
    found = []
    for number, path in enumerate(paths):
        store = Store.open(base / f"right{number}")
        with opened_images(str(path), scratch=store.scratch) as sources:
            added = [(source.names, store.add(source)) for source in sources]
        images = [(names, str(image.id)) for names, image in added]
        found.append(Archive(path, images, {str(one.id): trees(one) for _, one in added}))
    return found


def trees(image: StoredImage) -> Trees:
    """What the layers of *image* hold, base first."""
    return [shown(layer.path, Format.KERNEL) for layer in image.layers]


def killed_at(step: int, work: Callable[[], object]) -> tuple[str, int]:
    """Do *work* in a child, which is killed before its *step*-th step.

    The answer is ``killed``, ``done`` or ``refused``, and how many steps there were.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _die_at(step, work, writing)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    # A daemon that was left behind holds the other end, so this may have none.
    os.set_blocking(reading, False)
    said = b"" if os.WIFSIGNALED(status) else os.read(reading, 4000)
    os.close(reading)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        return "killed", step
    code = os.WEXITSTATUS(status)
    assert code in _RESULTS, said.decode()
    return _RESULTS[code], int(said)


def _die_at(step: int, work: Callable[[], object], writing: int) -> None:
    steps = itertools.count(1)
    count = 0

    def hook(event: str, _arguments: object) -> None:
        nonlocal count
        if event in STEPS:
            count = next(steps)
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        sys.addaudithook(hook)
        try:
            work()
            code = 0
        except ImageInUse:
            code = _REFUSED
        except MountFailed as exc:
            if exc.message != "the daemon died before it answered":
                raise
            code = _DAEMON
        os.write(writing, b"%d" % count)
    except BaseException:
        os.write(writing, traceback.format_exc().encode()[-3000:])
    finally:
        os._exit(code)


@dataclass(slots=True)
class World:
    """One store, what should be in it, and where an image of it is mounted."""

    store: Store
    archives: list[Archive]
    mountpoint: Path
    random: random.Random
    known: Known = field(default_factory=Known)
    mounted: str = ""
    steps: dict[str, list[int]] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, folder: Path, known: list[Archive], choices: random.Random) -> "World":
        """An empty store in the new *folder*, which a second one is compared with in the end."""
        (folder / "mnt").mkdir(parents=True)
        return cls(Store.open(folder / "store"), known, folder / "mnt", choices)

    # -- one accident ------------------------------------------------------------------

    def accident(self) -> bool:
        """One command, killed or not; whether it was.  AssertionError when that did harm."""
        kinds = [self.load, self.load, self.tag, self.untag, self.rmi, self.rmi, self.prune]
        if not self.mounted:
            kinds.append(self.mount)
        kind = self.random.choice(kinds)
        name = kind.__name__
        planned = kind()
        if planned is None:
            return False
        work, states = planned
        # Of as many steps as the longest had, or the last: what is there already takes few.
        step = self.random.randint(1, self.random.choice(self.steps.get(name, [2000])))
        result, count = killed_at(step, work)
        self.log.append(f"{name}: {result} at {count} of {self.steps.get(name)}; {self.known}")
        if result != "killed":
            self.steps[name] = [max(count, *self.steps.get(name, [count])), count]
        # Who waits to have the store alone has waited for every mount that is on its way.
        with locks.alone(self.store.root / "locks"):
            pass
        if name == "mount":
            self.after_mount(result == "killed")
        after = self.look()
        allowed = {"killed": states, "done": states[-1:], "refused": states[:1]}[result]
        assert after in allowed, "\n".join(self.log[-5:])
        self.known = after
        if result == "killed":
            self.kills[name] += 1
        if self.mounted and self.random.random() < 0.3:
            self.unmount()
        return result == "killed"

    def look(self) -> Known:
        """What is listed, all of it whole."""
        store = Store.open(self.store.root)
        images = store.images()
        right = {key: value for archive in self.archives for key, value in archive.trees.items()}
        for image in images:
            assert len(image.layers) == len(image.config.diff_ids), image.names
            for name in image.names:
                assert store.image(name) == image
            assert trees(image) == right[str(image.id)], image.names
        assert store.verify() == []
        if self.mounted:
            self.look_at_mount()
        return Known(
            frozenset((name, str(image.id)) for image in images for name in image.names),
            frozenset(str(image.id) for image in images),
        )

    def look_at_mount(self) -> None:
        """It shows what it should, unless its daemon came to its step by now."""
        try:
            seen = (self.mountpoint / "bin").read_bytes()
        except OSError as exc:
            if exc.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
                raise
            self.kills["mount"] += 1
            self.unmount()
        else:
            assert set(seen) in ({*b"b"}, {*b"B"})
            assert len(seen) in (300_000, 9000)

    # -- commands ----------------------------------------------------------------------

    def load(self) -> tuple[Callable[[], object], list[Known]]:
        """All images of some archive."""
        archive = self.random.choice(self.archives)
        states = [self.known]
        for names, image in archive.images:
            states.append(states[-1].called(names, image))

        def work() -> None:
            with opened_images(str(archive.path), scratch=self.store.scratch) as sources:
                for source in sources:
                    self.store.add(source)

        return work, states

    def tag(self) -> tuple[Callable[[], object], list[Known]] | None:
        """Names that may be another image's."""
        if not self.known.ids:
            return None
        image = self.random.choice(sorted(self.known.ids))
        pool = ["a:1", "b:1", "m:2", "x:1", "localhost/y:2"]
        names = self.random.sample(pool, self.random.randint(1, 3))
        return lambda: self.store.tag(image, names), [self.known, self.known.called(names, image)]

    def untag(self) -> tuple[Callable[[], object], list[Known]] | None:
        """Some name."""
        if not self.known.names:
            return None
        name, _ = self.random.choice(sorted(self.known.names))
        return lambda: self.store.untag([name]), [self.known, self.known.without([name])]

    def rmi(self) -> tuple[Callable[[], object], list[Known]] | None:
        """By name or id, with force or without."""
        if not self.known.ids:
            return None
        image = self.random.choice(sorted(self.known.ids))
        names = self.known.names_of(image)
        force = self.random.random() < 0.5
        if names and self.random.random() < 0.5:
            reference = names[0]
            several = len(names) > 1
        else:
            reference, several = image, False
        after = (
            self.known.without([reference])
            if several
            else self.known.only(self.known.ids - {image})
        )
        return lambda: self.store.remove(reference, force=force), [self.known, after]

    def prune(self) -> tuple[Callable[[], object], list[Known]]:
        """Of images those without a name, or all."""
        every = self.random.random() < 0.3
        stay = {image for image in self.known.ids if not every and self.known.names_of(image)}
        after = self.known.only(stay | {self.mounted})
        return lambda: self.store.prune(Pruning(every=every, kept=True)), [self.known, after]

    # -- mounts ------------------------------------------------------------------------

    def mount(self) -> tuple[Callable[[], object], list[Known]] | None:
        """Some image, for reading or for writing."""
        if not self.known.ids:
            return None
        image = self.store.image(self.random.choice(sorted(self.known.ids)))
        options = MountOptions(read_only=self.random.random() < 0.5)
        self.mounted = str(image.id)
        return lambda: mounting.mount(self.store, image, self.mountpoint, options), [self.known]

    def after_mount(self, killed: bool) -> None:
        """Whoever was killed, the command or its daemon, unmounting brings it to an end."""
        assert killed or is_mounted(self.mountpoint)
        if killed:
            self.unmount()

    def unmount(self) -> None:
        """Unmount what is mounted, if anything is."""
        if is_mounted(self.mountpoint) or mounting.mounts(self.store):
            mounting.unmount(self.store, self.mountpoint, discard=True)
        self.mounted = ""

    # -- the end -----------------------------------------------------------------------

    def settle_accounts(self) -> None:
        """After a prune nothing is left but what a fresh store with the same images has."""
        self.unmount()
        self.store.prune(Pruning(kept=True))
        again = Store.open(self.store.root.with_name("fresh"))
        for name, _ in sorted(self.known.names):
            spec = f"oci:{self.store.root}:{name}"
            with open_image(spec, platform=None, scratch=again.scratch) as source:
                again.add(source)
        for store in (self.store, again):
            store.settle()
            (store.root / "layers/settled").unlink(missing_ok=True)
        assert inventory(self.store.root) == inventory(again.root)


def inventory(root: Path) -> dict[str, tuple[int, int]]:
    """Each file and link of the store: its size, and what it takes of the disk.

    Directories are the file system's business: ext4 never makes one smaller.
    """
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        if not path.is_dir() or path.is_symlink():
            found[str(path.relative_to(root))] = (status.st_size, status.st_blocks)
    return found
