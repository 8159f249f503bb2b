"""A store works after every kind of accident: killed, out of space, raced, without power."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from overlayfs.errors import OverlayError
from overlayfs.linux.boot import this_boot
from overlayfs.store.removing import Pruning
from overlayfs.store.store import Store, StoredImage
from overlayfs.union.names import Format
from tests.store.conftest import BASE, UPPER, Counter, add, contents, docker, oci, opened
from tests.support.layers import Shown, file, folder, in_child, shown, tar
from tests.support.stepping import before_each_call

# Three layers, so that some are done while others are not; the last needs the first.
LAYERS = (
    BASE,
    tar(*(file(f"many/{number}", b"%d" % number * 500) for number in range(60)), folder("many")),
    UPPER,
)


def trees(image: StoredImage) -> list[dict[bytes, Shown]]:
    """What the layers of *image* hold."""
    return [shown(layer.path, Format.KERNEL) for layer in image.layers]


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Do *work* and kill it at its *number*-th step on files; False if it ended before.

    A step is what Python reports before the system call: open, rename, mkdir, symlink….
    """

    def dying() -> None:
        steps = itertools.count(1)

        def hook(event: str, _arguments: object) -> None:
            if event in _STEPS and next(steps) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()

    status = in_child(dying)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert status == 0
    return False


_STEPS = {"open", "os.rename", "os.mkdir", "os.symlink", "os.link", "os.remove", "os.rmdir",
          "os.utime", "fcntl.flock", "os.setxattr", "os.scandir", "os.listdir"}  # fmt: skip


def check_after_accident(store: Store, path: Path, expected: list[dict[bytes, Shown]]) -> None:
    """The image is there whole or not at all, and adding it gives it whole."""
    for image in store.images():
        assert trees(store.image(image.id.hex)) == expected
    again = add(Store.open(store.root), path)
    assert trees(again) == expected
    assert list((store.root / "tmp").iterdir()) == []
    assert trees(Store.open(store.root).image("app:1")) == expected


@pytest.fixture(scope="module")
def expected(
    tmp_path_factory: pytest.TempPathFactory, needs_root: None
) -> list[dict[bytes, Shown]]:
    """What the image should look like."""
    folder_ = tmp_path_factory.mktemp("expected")
    return trees(add(Store.open(folder_ / "store"), oci(folder_ / "image", *LAYERS)))


@pytest.mark.parametrize("form", [oci, docker])
def test_killed_anywhere(
    form: Callable[..., Path], tmp_path: Path, expected: list[dict[bytes, Shown]]
) -> None:
    path = form(tmp_path / "image", *LAYERS)
    total = 0
    for number in itertools.count(64, 64):  # how many steps there are, about
        root = tmp_path / f"count{number}"
        if not killed_at(number, lambda root=root: add(Store.open(root), path)):
            total = number
            break
    assert total > 200
    # Everywhere at the end, where things get their names, and here and there before.
    for number in [*range(1, total - 128, 37), *range(total - 128, total, 2)]:
        store = Store.open(tmp_path / f"at{number}")
        killed_at(number, lambda store=store: add(store, path))
        check_after_accident(store, path, expected)


def test_killed_while_the_store_is_made(tmp_path: Path) -> None:
    path = oci(tmp_path / "image", BASE)
    for number in itertools.count(1):
        root = tmp_path / f"store{number}"
        was_killed = killed_at(number, lambda root=root: Store.open(root))
        assert len(add(Store.open(root), path).layers) == 1
        if not was_killed:
            break
    assert number > 5


def test_killed_again_and_again(tmp_path: Path, expected: list[dict[bytes, Shown]]) -> None:
    path = oci(tmp_path / "image", *LAYERS)
    store = Store.open(tmp_path / "store")
    for number in range(20, 420, 50):
        killed_at(number, lambda: add(store, path))
    check_after_accident(store, path, expected)


def test_interrupted_by_the_keyboard(tmp_path: Path, expected: list[dict[bytes, Shown]]) -> None:
    path = oci(tmp_path / "image", *LAYERS)
    store = Store.open(tmp_path / "store")
    before = contents(store.root)

    class Impatient(Counter):
        def advance(self, n: int) -> None:
            if not self.done:  # once: a second Ctrl-C may stop the tidying up
                self.done = 1
                os.kill(os.getpid(), signal.SIGINT)

    def work() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with opened(store, path) as source, pytest.raises(KeyboardInterrupt):
            store.add(source, progress=Impatient())

    assert in_child(work) == 0
    assert contents(store.root) == before
    check_after_accident(store, path, expected)


# -- a full disk -----------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path, needs_root: None) -> Iterator[Callable[[int, int], Path]]:
    """A file system of some KiB and inodes, which may grow later."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20000", "tmpfs", mounted], check=True
    )

    def resize(kib: int, inodes: int = 20000) -> Path:
        options = f"remount,size={kib}k,nr_inodes={inodes}"
        subprocess.run(["mount", "-o", options, mounted], check=True)
        return mounted

    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", mounted], check=True)


@pytest.mark.parametrize("form", [oci, docker])
@pytest.mark.parametrize("kib", [80, 136, 160, 192, 264, 364, 428, 460, 484, 504, 524, 544])
def test_a_full_disk(
    kib: int,
    form: Callable[..., Path],
    tmp_path: Path,
    small_disk: Callable[..., Path],
    expected: list[dict[bytes, Shown]],
) -> None:
    path = form(tmp_path / "image", *LAYERS)
    disk = small_disk(1 << 14)
    store = Store.open(disk / "store")
    small_disk(kib)
    before = contents(store.root)
    try:
        image = add(store, path)
    except OverlayError as exc:
        assert "No space left on device" in exc.message  # noqa: PT017
        assert "--root" in exc.hint  # noqa: PT017
        assert store.images() == []
        assert list((store.root / "tmp").iterdir()) == []
        if "layer sha256" in exc.message:
            assert contents(store.root) == before
    else:
        assert trees(image) == expected
    small_disk(1 << 14)
    check_after_accident(store, path, expected)


def test_no_inodes_left(
    tmp_path: Path, small_disk: Callable[..., Path], expected: list[dict[bytes, Shown]]
) -> None:
    path = oci(tmp_path / "image", *LAYERS)
    store = Store.open(small_disk(1 << 14) / "store")
    small_disk(1 << 14, 60)
    with pytest.raises(OverlayError, match=r"layer sha256:.*No space left"):
        add(store, path)
    assert list((store.root / "tmp").iterdir()) == []
    small_disk(1 << 14)
    check_after_accident(store, path, expected)


def fill(folder: Path) -> Path:
    """A file that takes all that is left of the disk."""
    path = folder / "fill"
    with path.open("wb", buffering=0) as file_, suppress(OSError):
        while True:
            file_.write(b"x" * 4096)
    return path


def test_a_full_disk_can_be_made_room_on(
    tmp_path: Path, small_disk: Callable[..., Path], expected: list[dict[bytes, Shown]]
) -> None:
    path = oci(tmp_path / "image", *LAYERS)
    disk = small_disk(1 << 12)
    store = Store.open(disk / "store")
    add(store, path)
    other = oci(tmp_path / "other", tar(file("big", os.urandom(500_000))), name="big:1")
    add(store, other)
    add(store, oci(tmp_path / "next", tar(file("next")), name="next:1"))
    store.untag(["next:1"])
    left = fill(disk)
    with pytest.raises(OverlayError, match="No space left"):
        store.tag("app:1", ["app:2"])
    with pytest.raises(OverlayError, match="No space left"):
        add(store, oci(tmp_path / "more", tar(file("more")), name="more:1"))
    assert [image.names for image in store.images()] == [("app:1",), ("big:1",), ()]
    assert store.verify() == []
    # There is some room kept back, for once.
    assert store.remove("big:1").swept.freed > 500_000
    assert store.tag("app:1", ["app:2"]).names == ("app:1", "app:2")
    left.unlink()
    left = fill(disk)
    assert len(store.prune(Pruning()).images) == 1
    left.unlink()
    check_after_accident(store, path, expected)
    assert store.verify(deep=True) == []
    assert (store.root / "reserve").stat().st_size > 0


def test_pruning_where_nothing_at_all_is_left(
    tmp_path: Path, small_disk: Callable[..., Path]
) -> None:
    disk = small_disk(1 << 12)
    store = Store.open(disk / "store")
    add(store, oci(tmp_path / "image", *LAYERS))
    draft = store.root / "tmp/abandoned"
    draft.write_bytes(b"x" * 100_000)
    (store.root / "reserve").unlink()
    fill(disk)
    assert store.prune(Pruning()).swept.freed >= 100_000
    store.remove("app:1")
    assert store.images() == []


def test_no_room_for_a_store(small_disk: Callable[..., Path], tmp_path: Path) -> None:
    disk = small_disk(4)
    with pytest.raises(OverlayError, match="No space left"):
        Store.open(disk / "store")


# -- at once ---------------------------------------------------------------------------


def test_two_at_once_do_the_work_once(tmp_path: Path, expected: list[dict[bytes, Shown]]) -> None:
    big = tar(file("big", os.urandom(6 << 20)))
    path = oci(tmp_path / "image", *LAYERS, big)
    store = Store.open(tmp_path / "store")
    go_reading, go_writing = os.pipe()
    said_reading, said_writing = os.pipe()

    def adding() -> None:
        counter = Counter()
        os.read(go_reading, 1)
        with opened(store, path) as source:
            image = store.add(source, progress=counter)
        assert trees(image)[:3] == expected
        os.write(said_writing, b"%d\n" % counter.done)

    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            try:
                adding()
                os._exit(0)
            except BaseException as exc:
                os.write(2, repr(exc).encode())
                os._exit(1)
        children.append(child)
    os.write(go_writing, b"gogo")
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0, 0]
    done = sorted(int(line) for line in os.read(said_reading, 1000).split())
    for fd in (go_reading, go_writing, said_reading, said_writing):
        os.close(fd)
    assert done[:3] == [0, 0, 0]
    assert done[3] > 6 << 20
    assert list((store.root / "locks").iterdir()) == []


def test_different_images_at_once(tmp_path: Path, needs_root: None) -> None:
    paths = [oci(tmp_path / f"{n}", BASE, tar(file(f"{n}")), name=f"n:{n}") for n in range(6)]
    store = Store.open(tmp_path / "store")
    children = []
    for path in paths:
        child = os.fork()
        if child == 0:
            try:
                add(store, path)
                os._exit(0)
            except BaseException:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    assert sorted(image.names[0] for image in store.images()) == [f"n:{n}" for n in range(6)]
    assert len({image.layers[0].path for image in store.images()}) == 1


def test_drafts_of_the_living_stay(tmp_path: Path, needs_root: None) -> None:
    """Who sweeps while another writes leaves the other's draft alone."""
    store = Store.open(tmp_path / "store")
    first = oci(tmp_path / "first", tar(file("a")), name="a:1")
    second = oci(tmp_path / "second", tar(file("b")), name="b:1")

    class Between(Counter):
        def begin(self, total: int | None) -> None:
            super().begin(total)
            assert in_child(lambda: add(store, second)) == 0

    with opened(store, first) as source:
        store.add(source, progress=Between())
    assert {image.names for image in store.images()} == {("a:1",), ("b:1",)}


# -- a power cut -----------------------------------------------------------------------


def lose_power(root: Path) -> None:
    """As after a power cut: another boot, and what was not synced is damaged."""
    for path in (root / "layers/sha256").rglob("*.json"):
        if "root" in path.relative_to(root / "layers/sha256").parts:
            continue
        text = path.read_text()
        path.write_text(text.replace(this_boot(), "11111111-2222-3333-4444-555555555555"))
    for path in (root / "layers/sha256").glob("*/root/etc/passwd"):
        path.write_bytes(b"\0" * 400)


def test_layers_lost_with_the_power_are_unpacked_again(
    tmp_path: Path, expected: list[dict[bytes, Shown]]
) -> None:
    store = Store.open(tmp_path / "store")
    add(store, oci(tmp_path / "image", *LAYERS))
    lose_power(store.root)
    assert trees(Store.open(store.root).image("app:1")) == expected
    assert trees(store.images()[0]) == expected


def test_torn_records_are_not_believed(tmp_path: Path, expected: list[dict[bytes, Shown]]) -> None:
    store = Store.open(tmp_path / "store")
    image = add(store, oci(tmp_path / "image", *LAYERS))
    (image.layers[0].path.parent / "layer.json").write_bytes(b"")
    (image.layers[0].path / "etc/passwd").unlink()
    (store.root / "layers/sha256" / f"{image.layers[1].diff_id.hex}.json").write_bytes(b"\0" * 99)
    assert trees(store.image("app:1")) == expected


def test_blobs_lost_with_the_power_are_told_and_added_again(
    tmp_path: Path, expected: list[dict[bytes, Shown]]
) -> None:
    path = oci(tmp_path / "image", *LAYERS)
    store = Store.open(tmp_path / "store")
    image = add(store, path)
    lose_power(store.root)
    blob = store.root / "blobs/sha256" / image.layers[1].blob.digest.hex
    blob.write_bytes(b"\0" * image.layers[1].blob.size)
    with pytest.raises(OverlayError, match="app:1: the store has lost a part") as caught:
        store.image("app:1")
    assert "add it again" in caught.value.hint
    assert trees(add(store, path)) == expected


def test_what_is_settled_survives(tmp_path: Path, expected: list[dict[bytes, Shown]]) -> None:
    store = Store.open(tmp_path / "store")
    image = add(store, oci(tmp_path / "image", *LAYERS))
    store.settle()
    inode = image.layers[0].path.stat().st_ino
    for pattern in ("*.json", "*/layer.json"):
        for path in (store.root / "layers/sha256").glob(pattern):
            assert this_boot() not in path.read_text()
    again = store.image("app:1")
    assert again.layers[0].path.stat().st_ino == inode
    assert trees(again) == expected
    before = contents(store.root)
    store.settle()
    assert contents(store.root) == before


def test_what_is_settled_is_not_looked_through_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    add(store, oci(tmp_path / "image", *LAYERS))
    store.settle()
    kept = store.root / "layers/sha256"
    # Long enough ago that what is added next has another time.
    os.utime(kept, ns=(0, kept.stat().st_mtime_ns - 10_000_000_000))
    store.settle()
    looked = [sum(1 for _ in before_each_call(store.settle))]
    for number in range(100):
        (kept / f"{number:064x}.json").write_bytes(b"{}")
    os.utime(kept, ns=(0, kept.stat().st_mtime_ns - 10_000_000_000))
    looked.append(sum(1 for _ in before_each_call(store.settle)))
    store.settle()
    looked.append(sum(1 for _ in before_each_call(store.settle)))
    assert looked[1] > 300 + looked[0], "a hundred records more were not read"
    assert looked[2] < 100 > looked[0]


def test_what_is_added_to_a_settled_store_is_settled_too(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    for number in range(3):
        layer = tar(file(f"file{number}", b"data"))
        add(store, oci(tmp_path / f"image{number}", layer))
        kept = store.root / "layers/sha256"
        for age in (0, 10_000_000_000, 10_000_000_000):
            os.utime(kept, ns=(0, kept.stat().st_mtime_ns - age))
            store.settle()
        assert not [path for path in kept.rglob("*.json") if this_boot() in path.read_text()]
