"""Several processes that change one tree at once, each noting down what it did.

In the manner of fsstress, but every name is given once only, so the notes of all processes
say together, whatever their order, what must be there in the end.  The exception are names
that a process keeps to itself: it knows at every moment which of them there are.
"""

# System calls as they are, on short strings relative to the tree.
# ruff: noqa: PTH101, PTH102, PTH106, PTH108, PTH115, PTH123, PTH208, PTH211

import errno
import json
import os
import random
import select
import shutil
import signal
import stat
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from overlayfs.linux.files import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from tests.support.served import served
from tests.support.union import PATIENCE, Stack, opaque, whiteout

PROCESSES = 4
HEAD = 32
_CWD = -100
_ROOT = "root"
_MODES = (0o600, 0o644, 0o755, 0o4711, 0o1666)
# What may well happen when somebody else was faster, or in lower directories (EXDEV).
_RACES = {errno.ENOENT, errno.ENOTEMPTY, errno.EXDEV, errno.EINVAL}


def head(identity: str) -> bytes:
    """The bytes that a file begins with."""
    return identity.encode().ljust(HEAD, b".")


@dataclass(slots=True)
class Notes:
    """What was done, and to which names."""

    made: list[tuple[str, str, str]] = field(default_factory=list)  # name, parent, kind
    linked: list[tuple[str, str, str]] = field(default_factory=list)  # name, parent, source
    moved: list[tuple[str, str, str]] = field(default_factory=list)  # name, parent, old name
    gone: list[str] = field(default_factory=list)
    modes: list[tuple[str, int]] = field(default_factory=list)
    # The own names of each process: where, and the file.
    own: list[tuple[str, str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Notes") -> None:
        """All that *other* has as well."""
        for name in self.__slots__:
            if name == "done":
                self.done += other.done
            else:
                getattr(self, name).extend(getattr(other, name))


class Worker:
    """One of the processes; the working directory is the tree."""

    def __init__(self, number: int, seed: int, folders: list[str], stable: list[str]) -> None:
        self._number = number
        self._chance = random.Random(seed * 100 + number)
        self._folders = folders  # paths, many of them of the past
        self._stable = stable  # folders that nobody moves
        self._count = 0
        self._own: dict[tuple[str, str], str] = {}
        self.notes = Notes()
        self._actions = (
            *(self._make_file,) * 5,
            *(self._make_folder,) * 2,
            *(self._link,) * 3,
            *(self._rename,) * 5,
            *(self._unlink,) * 7,
            *(self._rename_folder,) * 2,
            *(self._remove_folder,) * 2,
            *(self._write,) * 5,
            *(self._truncate,) * 2,
            *(self._chmod,) * 2,
            *(self._look,) * 4,
            self._make_symlink,
            self._make_fifo,
            *(self._own_make,) * 3,
            *(self._own_replace,) * 3,
            *(self._own_exchange,) * 2,
            *(self._own_remove,) * 2,
            self._own_look,
        )

    def run(self, count: int) -> None:
        """Do *count* operations."""
        for _ in range(count):
            action = self._chance.choice(self._actions)
            try:
                action()
            except OSError as exc:
                code = exc.errno or 0
                self.notes.done[errno.errorcode[code]] += 1
                if code not in _RACES:
                    self.notes.wrong.append(f"{action.__name__}: {exc!r}")
            else:
                self.notes.done[action.__name__.strip("_")] += 1
        self._own_look(everywhere=True)
        self.notes.own = [(*place, identity) for place, identity in self._own.items()]

    # -- names -------------------------------------------------------------------------

    def _fresh(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._number}-{self._count}"

    def _folder(self) -> str:
        return self._chance.choice(self._folders)

    def _some(self, letters: str) -> tuple[str, str]:
        """A folder, and a name in it that begins with one of *letters*."""
        folder = self._folder()
        try:
            names = os.listdir(folder or ".")
        except FileNotFoundError:
            if folder not in self._stable:
                self._folders.remove(folder)
            raise
        if len(names) != len(set(names)):
            self.notes.wrong.append(f"{folder}: listed twice: {Counter(names).most_common(3)}")
        found = [name for name in names if name[0] in letters]
        for name in names:
            path = _join(folder, name)
            if name[0] == "d" and len(self._folders) < 60 and path not in self._folders:
                self._folders.append(path)
        if not found:
            raise FileNotFoundError(errno.ENOENT, "nothing there", folder)
        return folder, self._chance.choice(found)

    # -- shared names ------------------------------------------------------------------

    def _make_file(self) -> None:
        folder, name = self._folder(), self._fresh("f")
        fd = os.open(_join(folder, name), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.notes.made.append((name, _base(folder), "file"))
        try:
            os.pwrite(fd, head(name), 0)
            if self._chance.random() < 0.5:
                self._scribble(fd)
        finally:
            os.close(fd)

    def _make_folder(self) -> None:
        folder, name = self._folder(), self._fresh("d")
        if len(folder) > 150:
            return
        os.mkdir(_join(folder, name), 0o755)
        self.notes.made.append((name, _base(folder), "dir"))
        if len(self._folders) < 60:
            self._folders.append(_join(folder, name))

    def _make_symlink(self) -> None:
        folder, name = self._folder(), self._fresh("s")
        os.symlink(name[::-1], _join(folder, name))
        self.notes.made.append((name, _base(folder), "symlink"))

    def _make_fifo(self) -> None:
        folder, name = self._folder(), self._fresh("p")
        os.mkfifo(_join(folder, name))
        self.notes.made.append((name, _base(folder), "fifo"))

    def _link(self) -> None:
        folder, source = self._some("fs")
        goal, name = self._folder(), self._fresh(source[0])
        os.link(_join(folder, source), _join(goal, name), follow_symlinks=False)
        self.notes.linked.append((name, _base(goal), source))

    def _rename(self) -> None:
        folder, old = self._some("fsp")
        goal, name = self._folder(), self._fresh(old[0])
        flags = self._chance.choice((0, RENAME_NOREPLACE))
        self._renamed(_join(folder, old), _join(goal, name), flags)
        self.notes.moved.append((name, _base(goal), old))

    def _rename_folder(self) -> None:
        folder, old = self._some("d")
        goal, name = self._folder(), self._fresh("d")
        if len(goal) > 120:
            return
        self._renamed(_join(folder, old), _join(goal, name), 0)
        self.notes.moved.append((name, _base(goal), old))
        self._folders.append(_join(goal, name))

    @staticmethod
    def _renamed(old: str, new: str, flags: int) -> None:
        renameat2(_CWD, os.fsencode(old), _CWD, os.fsencode(new), flags)

    def _unlink(self) -> None:
        folder, name = self._some("fsp")
        os.unlink(_join(folder, name))
        self.notes.gone.append(name)

    def _remove_folder(self) -> None:
        folder, name = self._some("d")
        os.rmdir(_join(folder, name))
        self.notes.gone.append(name)

    # -- shared files ------------------------------------------------------------------

    def _scribble(self, fd: int) -> None:
        size = self._chance.choice((1, 100, 5000))
        os.pwrite(fd, bytes([ord("0") + self._number]) * size, self._chance.randrange(HEAD, 9000))

    def _write(self) -> None:
        folder, name = self._some("f")
        fd = os.open(_join(folder, name), os.O_RDWR)
        try:
            self._scribble(fd)
            self._check_body(name, os.pread(fd, 1 << 16, 0))
        finally:
            os.close(fd)

    def _check_body(self, name: str, body: bytes) -> None:
        """Of a file that may not be complete yet."""
        strange = set(body[HEAD:]) - set(b"0123L\0")
        if strange or (any(body[:HEAD]) and body[:1] != b"f"):
            self.notes.wrong.append(f"{name}: {body[:HEAD]!r}, {strange}")

    def _truncate(self) -> None:
        folder, name = self._some("f")
        os.truncate(_join(folder, name), self._chance.randrange(HEAD, 12_000))

    def _chmod(self) -> None:
        folder, name = self._some("f")
        mode = self._chance.choice(_MODES)
        # Noted before: somebody may look in between.
        self.notes.modes.append((name, mode))
        os.chmod(_join(folder, name), mode)

    def _look(self) -> None:
        folder, name = self._some("fspd")
        found = os.lstat(_join(folder, name))
        expected = {"f": stat.S_IFREG, "s": stat.S_IFLNK, "p": stat.S_IFIFO, "d": stat.S_IFDIR}
        if stat.S_IFMT(found.st_mode) != expected[name[0]]:
            self.notes.wrong.append(f"{name}: {found}")
        if name[0] == "f" and found.st_size < 20_000:
            with open(_join(folder, name), "rb") as file:
                self._check_body(name, file.read())

    # -- own names ---------------------------------------------------------------------

    def _own_place(self) -> tuple[str, str]:
        return self._chance.choice(self._stable), f"o{self._number}-{self._chance.randrange(6)}"

    def _own_known(self) -> tuple[str, str]:
        if not self._own:
            raise FileNotFoundError(errno.ENOENT, "no name yet")
        return self._chance.choice(list(self._own))

    def _own_make(self) -> None:
        place = self._own_place()
        identity = self._fresh("x")
        try:
            fd = os.open(_join(*place), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            self._expect(place, there=True)
            return
        self._expect(place, there=False)
        os.write(fd, head(identity))
        os.close(fd)
        self._own[place] = identity

    def _own_replace(self) -> None:
        old, new = self._own_known(), self._own_place()
        self._renamed(_join(*old), _join(*new), 0)
        self._own[new] = self._own.pop(old) if old != new else self._own[old]

    def _own_exchange(self) -> None:
        one, other = self._own_known(), self._own_known()
        self._renamed(_join(*one), _join(*other), RENAME_EXCHANGE)
        self._own[one], self._own[other] = self._own[other], self._own[one]

    def _own_remove(self) -> None:
        place = self._own_place()
        try:
            os.unlink(_join(*place))
        except FileNotFoundError:
            self._expect(place, there=False)
            return
        self._expect(place, there=True)
        del self._own[place]

    def _own_look(self, *, everywhere: bool = False) -> None:
        for folder in self._stable if everywhere else [self._chance.choice(self._stable)]:
            mine = f"o{self._number}-"
            listed = sorted(name for name in os.listdir(folder or ".") if name.startswith(mine))
            known = sorted(name for where, name in self._own if where == folder)
            if listed != known:
                self.notes.wrong.append(f"{folder}: lists {listed}, but there are {known}")
            for name in known:
                with open(_join(folder, name), "rb") as file:
                    body = file.read()
                if body != head(self._own[folder, name]):
                    self.notes.wrong.append(f"{folder}/{name}: {body!r}")

    def _expect(self, place: tuple[str, str], *, there: bool) -> None:
        if (place in self._own) is not there:
            self.notes.wrong.append(f"{place}: {'there' if there else 'not there'}")


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _base(folder: str) -> str:
    return folder.rpartition("/")[2] or _ROOT


# -- what must be there --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expected:
    """One file of the tree at the end."""

    kind: str
    identity: str  # the name that it had first


class Outcome:
    """What *notes* come to: ``tree`` by path, ``nlink`` and ``modes`` by identity."""

    def __init__(self, notes: Notes) -> None:
        self.wrong = list(notes.wrong)
        kinds = {name: kind for name, _, kind in notes.made}
        source = {name: old for name, _, old in (*notes.linked, *notes.moved)}
        places = {name: parent for name, parent, _ in (*notes.made, *notes.linked, *notes.moved)}
        removed = Counter([*notes.gone, *(old for _, _, old in notes.moved)])
        self.wrong += [f"{name}: removed {n} times" for name, n in removed.items() if n > 1]
        self.wrong += [f"{name}: removed, never made" for name in removed if name not in places]

        def identity(name: str) -> str:
            while name in source:
                name = source[name]
            return name

        alive = {name: identity(name) for name in places if not removed[name]}
        now = {first: name for name, first in alive.items() if kinds[first] == "dir"}
        self.nlink = Counter(alive.values())
        # Names of lower files that are hidden count again when the kernel forgot the file.
        lower = (source for name, _, source in notes.linked if name.startswith("f9-"))
        self.uncounted = {identity(name) for name in lower}
        self.modes: dict[str, set[int]] = {}
        for name, mode in notes.modes:
            self.modes.setdefault(identity(name), set()).add(mode)

        def path(name: str) -> str:
            parent = places[name]
            if parent == _ROOT:
                return name
            above = now.get(identity(parent))
            if above is None:
                self.wrong.append(f"{name}: in {parent}, which was removed")
                return f"?/{name}"
            return f"{path(above)}/{name}"

        self.tree = {path(name): Expected(kinds[first], first) for name, first in alive.items()}
        for folder, name, first in notes.own:
            self.tree[_join(folder, name)] = Expected("file", first)
            self.nlink[first] = 1

    def differences(self, root: Path, *, numbered: bool) -> list[str]:
        """What is not so below *root*; unless *numbered*, a listing may tell other numbers."""
        found = _walk(str(root), "")
        lines = [f"{path}: is missing" for path in sorted(self.tree.keys() - found.keys())]
        lines += [
            f"{path}: should not be there" for path in sorted(found.keys() - self.tree.keys())
        ]
        numbers: dict[str, set[int]] = {}
        for path in sorted(self.tree.keys() & found.keys()):
            expected = self.tree[path]
            st = os.lstat(f"{root}/{path}")
            numbers.setdefault(expected.identity, set()).add(st.st_ino)
            lines += [f"{path}: {line}" for line in self._file(f"{root}/{path}", st, expected)]
            counts = expected.kind != "dir" and expected.identity not in self.uncounted
            if counts and st.st_nlink != self.nlink[expected.identity]:
                lines.append(f"{path}: {st.st_nlink} links, not {self.nlink[expected.identity]}")
            if numbered and found[path] != st.st_ino:
                lines.append(f"{path}: listed as {found[path]}, but it is {st.st_ino}")
        lines += [
            f"{name}: is {len(inos)} files" for name, inos in numbers.items() if len(inos) > 1
        ]
        if len(numbers) != len(set().union(*numbers.values())):
            lines.append("two files have one number")
        return lines

    def _file(self, path: str, st: os.stat_result, expected: Expected) -> list[str]:
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "symlink"}
        kind = kinds.get(stat.S_IFMT(st.st_mode), "fifo")
        if kind != expected.kind:
            return [f"a {kind}, not a {expected.kind}"]
        if kind == "symlink" and os.readlink(path) != expected.identity[::-1]:
            return [f"leads to {os.readlink(path)}"]
        if kind != "file":
            return []
        with open(path, "rb") as file:
            body = file.read()
        wrong = []
        if body[:HEAD] != head(expected.identity) or set(body[HEAD:]) - set(b"0123L\0"):
            wrong.append(f"holds {body[:HEAD]!r}, {len(body)} bytes")
        if len(body) != st.st_size:
            wrong.append(f"{len(body)} bytes, not {st.st_size}")
        modes = {0o600, *self.modes.get(expected.identity, ())}
        if stat.S_IMODE(st.st_mode) not in modes:
            wrong.append(f"mode {st.st_mode:o}, not one of {modes}")
        return wrong


def _walk(root: str, folder: str) -> dict[str, int]:
    """Path and listed number of everything."""
    found: dict[str, int] = {}
    for entry in list(os.scandir(_join(root, folder) if folder else root)):
        path = _join(folder, entry.name)
        found[path] = entry.inode()
        if entry.is_dir(follow_symlinks=False):
            found |= _walk(root, path)
    return found


# -- all together --------------------------------------------------------------------------


def lower_layers(stack: Stack, chance: random.Random) -> tuple[Notes, list[str], list[str]]:
    """Fill the lower layers of *stack*: the notes of it, folders, and those that stay."""
    notes = Notes()
    stable = ["keep0", "keep1", "keep2"]
    for name in stable:
        notes.made.append((name, _ROOT, "dir"))
        for layer in stack.lowers:
            (layer / name).mkdir()
    folders = ["", *stable]
    count = 0
    for number in range(10):
        name = f"d9-{number}"
        above = chance.choice(folders)
        notes.made.append((name, _base(above), "dir"))
        # Made in every layer, so that it is merged; nothing else is above it.
        for layer in stack.lowers:
            (layer / above / name).mkdir(parents=True)
        folders.append(_join(above, name))
    for layer in stack.lowers:
        for _ in range(60):
            folder, name = chance.choice(folders), f"f9-{count}"
            count += 1
            body = head(name) + b"L" * chance.choice((0, 3000, 100_000))
            path = layer / folder / name
            path.write_bytes(body)
            path.chmod(0o600)
            notes.made.append((name, _base(folder), "file"))
            if chance.random() < 0.2:
                goal, other = chance.choice(folders), f"f9-{count}"
                count += 1
                (layer / goal / other).hardlink_to(path)
                notes.linked.append((other, _base(goal), name))
    # What is hidden must stay hidden.
    for number in range(10):
        (stack.lowers[-1] / chance.choice(stable) / f"h{number}").write_text("hidden")
        for name in stable:
            whiteout(stack.lowers[0] / name / f"h{number}")
    (stack.lowers[-1] / "d9-10/below").mkdir(parents=True)
    opaque(stack.lowers[0] / "d9-10")
    notes.made.append(("d9-10", _ROOT, "dir"))
    folders.append("d9-10")
    return notes, folders, stable


def work(
    root: Path, results: Path, count: int, seed: int, folders: list[str], stable: list[str]
) -> Notes:
    """Let all processes do *count* operations together below *root*."""
    children = {}
    for number in range(PROCESSES):
        child = os.fork()
        if not child:
            _work(root, results / f"{number}", number, count // PROCESSES, seed, folders, stable)
        children[child] = number
    deadline = time.monotonic() + PATIENCE + count / 100
    together = Notes()
    for child, number in children.items():
        if not _ended(child, deadline):
            for other in children:
                os.kill(other, signal.SIGKILL)
            raise AssertionError(f"process {number} hangs")
        told = json.loads((results / f"{number}").read_text())
        told["done"] = Counter(told["done"])
        together.add(Notes(**told))
    return together


def _ended(child: int, deadline: float) -> bool:
    fd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            return False
        os.waitpid(child, 0)
        return True
    finally:
        os.close(fd)


def _work(
    root: Path,
    result: Path,
    number: int,
    count: int,
    seed: int,
    folders: list[str],
    stable: list[str],
) -> None:
    """In a process of its own: never returns."""
    status = 1
    try:
        os.chdir(root)
        os.umask(0o022)
        worker = Worker(number, seed, list(folders), stable)
        try:
            worker.run(count)
        except Exception:
            worker.notes.wrong.append(traceback.format_exc())
        os.chdir("/")
        notes = worker.notes
        result.write_text(json.dumps({name: getattr(notes, name) for name in notes.__slots__}))
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def run(base: Path, count: int, seed: int) -> str:
    """Let a crowd change a mount in *base*, which is made; what was done, in words.

    AssertionError when the tree is not what the notes say: live, after the kernel has
    forgotten everything, after a remount, and as the kernel's overlayfs shows it; or when it
    cannot be removed.
    """
    chance = random.Random(seed)
    stack = Stack.make(base, lowers=3)
    notes, folders, stable = lower_layers(stack, chance)
    results = base / "results"
    results.mkdir()
    with served(stack) as mnt:
        _expect(Outcome(notes), mnt, "before")
        notes.add(work(mnt, results, count, seed, folders, stable))
        outcome = Outcome(notes)
        _expect(outcome, mnt, "live")
        Path("/proc/sys/vm/drop_caches").write_text("2")
        _expect(outcome, mnt, "after the kernel has forgotten it")
    with served(stack) as mnt:
        _expect(outcome, mnt, "after a remount")
    with stack.by_kernel() as merged:
        # It lists the numbers of copied directories that it did not copy itself wrongly.
        _expect(outcome, merged, "by the kernel", numbered=False)
    with served(stack) as mnt:
        for path in mnt.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        assert list(mnt.iterdir()) == []
    with served(stack) as mnt:
        assert list(mnt.iterdir()) == []
    done = sum(n for name, n in notes.done.items() if not name.startswith("E"))
    return f"{count} operations, {done} of them with success, {len(outcome.tree)} names at the end"


def _expect(outcome: Outcome, root: Path, when: str, *, numbered: bool = True) -> None:
    wrong = [*outcome.wrong, *outcome.differences(root, numbered=numbered)]
    shown = "\n".join(wrong[:30])
    assert not wrong, f"{when}: {len(wrong)} differences\n{shown}"
