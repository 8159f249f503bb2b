"""The doors through which a hostile image comes, and what a person sees behind them."""

import importlib
import os
import pickle
import resource
import select
import signal
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlayfs.archive.detect import open_image
from overlayfs.errors import OverlayError
from overlayfs.serving import Stack
from overlayfs.store.drafts import remove_path
from overlayfs.store.store import Store, StoredImage
from overlayfs.tree.node import Node
from overlayfs.union.attrs import Kind
from overlayfs.union.names import Format
from overlayfs.view.extraction import Kept, extract
from overlayfs.view.image import ImageView
from overlayfs.view.opening import of_source
from tests.hostile.case import Ground
from tests.support.archives import Made, from_1_10, write_tar
from tests.support.layers import TIME, file, tar
from tests.support.live import Live
from tests.support.tree import snapshot

# What is imported only when it is used may lie where a plain user cannot look.
for _name in ("concurrent.futures.thread", "overlayfs.store.adding", "overlayfs.tree.filesystem"):
    importlib.import_module(_name)

SECONDS = 20
# What the interpreter and its libraries take is there before; this is what the image may cost.
MEMORY = 200 << 20
# Of the command as a whole, as getrusage(2) has it.
COMMAND_MEMORY = 300 << 20
# A message is one line that a person reads.
LINE = 1000
MOST_LINES = 25
USER = 65534

KNOWN = Made((tar(file("known", b"known")),))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an image: *tree*, or the *message* that refused it; *memory* it took."""

    tree: dict[str, str] | None
    message: str
    memory: int = 0


def described(
    kind: str,
    mode: int,
    owner: tuple[int, int],
    rdev: int,
    mtime_ns: int,
    links: int,
    body: bytes,
    size: int,
    xattrs: Mapping[bytes, bytes],
) -> str:
    """One file in one line, without what is usual."""
    words = [kind]
    if kind == "symlink":
        words = [f"-> {_text(body)}"]
    elif kind == "file" and size:
        words.append(_text(body) if size <= 64 else f"{size} bytes")
    elif kind in ("char", "block"):
        words.append(f"{os.major(rdev)}:{os.minor(rdev)}")
    usual = {"symlink": 0o777, "dir": 0o755}.get(kind, 0o644)
    if mode != usual and kind != "symlink":
        words.append(f"mode={mode:o}")
    if owner != (0, 0):
        words.append(f"owner={owner[0]}:{owner[1]}")
    if links > 1 and kind != "dir":
        words.append(f"links={links}")
    if mtime_ns not in (TIME * 10**9, 0):
        words.append(f"mtime={mtime_ns}")
    words += [f"{_text(name)}={_text(value)}" for name, value in sorted(xattrs.items())]
    return " ".join(words)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace") if len(data) <= 300 else f"{len(data)} bytes"


@contextmanager
def untouched(ground: Ground) -> Iterator[None]:
    """Nothing outside is changed meanwhile, not even for a moment: ctime would tell."""
    before = snapshot(ground.outside), _inodes(ground.outside)
    yield
    assert (snapshot(ground.outside), _inodes(ground.outside)) == before


def _inodes(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = {str(path): path.lstat() for path in [folder, *folder.rglob("*")]}
    return {path: (one.st_ino, one.st_nlink, one.st_ctime_ns) for path, one in found.items()}


# -- in this process ------------------------------------------------------------------------


def in_store(
    ground: Ground, spec: Path | str, fmt: Format, env: Mapping[str, str] | None = None
) -> Outcome:
    """What a store in the format *fmt* makes of *spec*, beside an image that it has already.

    It is done in a process of its own, for the plain format that of a plain user.
    """
    ground.base.chmod(0o755)
    home = ground.base / "home"
    home.mkdir()
    if fmt is Format.USER:
        os.chown(home, USER, USER)
        for path in (ground.base, *ground.base.parents):
            if path.is_relative_to("/tmp/") and path != Path("/tmp"):
                path.chmod(path.stat().st_mode | 0o011)
        _give(ground.base)

    def work() -> Outcome:
        # Opened before the process is another user's.
        memory = os.open("/proc/self/clear_refs", os.O_WRONLY)
        if fmt is Format.USER:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)
        store = Store.open(home / "store")
        assert store.format is fmt
        known = _add(store, str(write_tar(home / "known.tar", from_1_10([(KNOWN, ["known:1"])]))))
        before = _kept(store.root)
        os.environ |= env or {}
        os.write(memory, b"5")  # proc_pid_clear_refs(5): the highest is counted anew
        began = memory_of("VmRSS")
        try:
            outcome = Outcome(tree_of(_add(store, str(spec)), fmt), "")
        except OverlayError as exc:
            assert _kept(store.root) == before, "a refused image left something"
            check_message(exc.message, exc.hint)
            outcome = Outcome(None, exc.message)
        taken = memory_of("VmHWM") - began
        assert not any((store.root / "tmp").iterdir()), "something stays in tmp/"
        assert not any((store.root / "scratch").iterdir()), "something stays in scratch/"
        assert tree_of(Store.open(store.root).image("known:1"), fmt)["known"] == "file known"
        assert Store.open(store.root).image(known.id.hex).id == known.id
        return Outcome(outcome.tree, outcome.message, taken)

    try:
        return apart(work)
    finally:
        # What pytest uses to remove it is no match for some of these trees.
        remove_path(home)


def _add(store: Store, spec: str) -> StoredImage:
    with open_image(spec, scratch=store.scratch) as source:
        return store.add(source)


def _kept(root: Path) -> dict[str, int]:
    """What a store has, but for locks."""
    return {
        str(path.relative_to(root)): path.lstat().st_size if not path.is_dir() else 0
        for path in root.rglob("*")
        if path.relative_to(root).parts[0] != "locks"
    }


def _give(base: Path) -> None:
    """Let the plain user read the image, but none of the decoys."""
    for path in base.rglob("*"):
        if not path.is_symlink() and not path.is_relative_to(base / "outside"):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))


def check_message(message: str, hint: str) -> None:
    lines = message.split("\n")
    assert all(line.isprintable() for line in lines), repr(message)
    assert max(len(line) for line in lines) <= LINE, f"{len(message)} characters"
    if len(lines) > 1:  # a list to choose from
        assert lines[0].endswith(":")
        assert len(lines) <= MOST_LINES
    assert "\n" not in hint


def in_view(
    ground: Ground, spec: Path | str, env: Mapping[str, str] | None = None
) -> tuple[Outcome, Outcome]:
    """What is seen of *spec* without a store, and what is extracted of it."""
    home = ground.base / "looked-at"
    home.mkdir()

    def work() -> tuple[Outcome, Outcome]:
        memory = os.open("/proc/self/clear_refs", os.O_WRONLY)
        os.environ |= env or {}
        os.write(memory, b"5")
        began = memory_of("VmRSS")
        outcomes = []
        for look in (lambda view, _: looked_at(view), _extracted):
            try:
                with (
                    open_image(str(spec), scratch=home) as source,
                    of_source(source, what="image", scratch=home) as view,
                ):
                    tree, message = look(view, home), ""
            except OverlayError as exc:
                check_message(exc.message, exc.hint)
                tree, message = None, exc.message
            outcomes.append(Outcome(tree, message, memory_of("VmHWM") - began))
        return outcomes[0], outcomes[1]

    try:
        found: tuple[Outcome, Outcome] = apart(work)
        return found
    finally:
        remove_path(home)


def looked_at(view: ImageView) -> dict[str, str]:
    found = {}
    for path, entry in view.walk():
        body = entry.target
        if entry.kind is Kind.FILE:
            with view.open(path) as stream:
                while len(body) <= 64 and (piece := stream.read(65)):
                    body += piece
                body = body[:65]
        found[path.decode("utf-8", "surrogateescape")] = described(
            str(entry.kind),
            stat.S_IMODE(entry.mode),
            (entry.uid, entry.gid),
            entry.rdev,
            entry.mtime_ns,
            entry.nlink,
            body,
            entry.size,
            view.xattrs(path, follow=False),
        )
    view.verify()
    return _without_root(found)


def _extracted(view: ImageView, home: Path) -> dict[str, str]:
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    extract(view, b"/", folder, b"tree", Kept(owner=False))
    return {}


def _without_root(found: dict[str, str]) -> dict[str, str]:
    if found[""] == "dir":
        del found[""]
    return found


def tree_of(image: StoredImage, fmt: Format) -> dict[str, str]:
    """All that a mount of *image* shows, but for the root itself where that is as usual."""
    lowers = tuple(layer.path for layer in reversed(image.layers))
    if not lowers:
        return {}
    fs = Stack(lowers, None, None, fmt).open()
    try:
        live = Live(fs)
        found: dict[str, str] = {}
        left: list[tuple[str, Node]] = [("", live.node(""))]
        while left:
            path, node = left.pop()
            attrs = fs.tree.attrs(node)
            body = b""
            if node.kind is Kind.FILE:
                body = _read(live, node, min(attrs.size, 1 << 20))
            elif node.kind is Kind.SYMLINK:
                body = fs.readlink(node.ino)
            found[path] = described(
                str(node.kind),
                stat.S_IMODE(attrs.mode),
                (attrs.uid, attrs.gid),
                attrs.rdev,
                attrs.mtime_ns,
                attrs.nlink,
                body,
                attrs.size,
                fs.attributes.xattrs(node),
            )
            if node.kind is Kind.DIRECTORY:
                for name in list(fs.tree.directory(node).children):
                    child = fs.lookup(node.ino, name)
                    assert child is not None
                    text = name.decode("utf-8", "surrogateescape")
                    left.append((f"{path}/{text}" if path else text, child))
        return _without_root(found)
    finally:
        fs.close()


def _read(live: Live, node: Node, size: int) -> bytes:
    live.fs.files.hold(node)
    try:
        return os.pread(node.fd, size, 0)
    finally:
        live.fs.files.release(node)


def apart(work: Callable[[], Any]) -> Any:
    """What *work* gives in a process of its own, which must not take long."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
            result: tuple[bool, Any]
            try:
                result = (True, work())
                status = 0
            except BaseException:
                result = (False, traceback.format_exc())
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(result, pipe)
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answered, _, _ = select.select([pipe], [], [], SECONDS)
        if not answered:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0) if not answered else None
        assert answered, f"not done after {SECONDS} s"
        data = pipe.read()
    os.waitpid(child, 0)
    assert data, "the process died"
    good, value = pickle.loads(data)
    assert good, value
    return value


def memory_of(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"no {key} in /proc/self/status")


# -- the command ----------------------------------------------------------------------------


def by_command(
    ground: Ground, env: Mapping[str, str], *arguments: str | Path
) -> tuple[int, str, int]:
    """Exit code, stderr and the most memory of ``pyoverlay ARGUMENTS``, with its own store."""
    environment = os.environ | {
        "PYOVERLAY_ROOT": str(ground.base / "store"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with (ground.base / "stderr").open("w+b") as errors:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", _LAUNCH, ground.base / "memory"),
                *(sys.executable, "-m", "overlayfs", *arguments),
            ],
            cwd=ground.base,
            env=environment | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        errors.seek(0)
        said = errors.read().decode("utf-8", "backslashreplace")
    return code, said, int((ground.base / "memory").read_text()) << 10


# A process begins with what its parent had in memory, so the parent is a small one.
_LAUNCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
