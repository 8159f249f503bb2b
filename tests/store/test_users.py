"""Two users, two stores: neither reads, changes or even lists what the other has."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from overlayfs.errors import OverlayError
from overlayfs.store.removing import Pruning
from overlayfs.store.store import Store
from tests.store.conftest import BASE, UPPER, add, oci
from tests.support.layers import as_user, file, tar

pytestmark = pytest.mark.usefixtures("needs_root")


def everything(root: Path) -> list[Path]:
    return [root, *root.rglob("*")]


def test_a_user_reaches_nothing_of_roots(open_folder: Path) -> None:
    """Also where the store's own folder is open to all, as one that was there before may be."""
    (open_folder / "store").mkdir(mode=0o755)
    (open_folder / "store").chmod(0o755)
    store = Store.open(open_folder / "store")
    image = add(store, oci(open_folder / "image", BASE, UPPER))
    store.image("app:1")
    secret = image.layers[0].path / "etc/passwd"
    blob = store.root / "blobs/sha256" / image.layers[0].blob.digest.hex

    def work() -> None:
        for attempt in (
            lambda: list((store.root / "blobs").iterdir()),
            lambda: list((store.root / "layers").iterdir()),
            lambda: list((store.root / "tmp").iterdir()),
            blob.read_bytes,
            secret.read_bytes,
            lambda: (store.root / "index.json").write_bytes(b""),
            lambda: (store.root / "blobs/sha256/x").write_bytes(b""),
            lambda: (store.root / "locks/index").write_bytes(b""),
        ):
            with pytest.raises(PermissionError):
                attempt()
        with pytest.raises(OverlayError, match="belongs to root"):
            Store.open(store.root)

    as_user(work, open_folder)
    assert store.verify(deep=True) == []


def test_users_have_a_store_each(open_folder: Path) -> None:
    homes = {uid: open_folder / f"{uid}" for uid in (54321, 54322)}
    for uid, home in homes.items():
        home.mkdir()
        oci(home / "image", tar(file(f"of{uid}")), name=f"of{uid}:1")
        subprocess.run(["chown", "-R", f"{uid}:{uid}", home], check=True)

    def own() -> Store:
        # As a login has it: no store is named.
        os.environ.pop("PYOVERLAY_ROOT", None)
        os.environ.pop("XDG_DATA_HOME", None)
        os.environ["HOME"] = str(Path.cwd())
        return Store.open()

    def load(uid: int) -> Callable[[], None]:
        def work() -> None:
            assert add(own(), Path("image")).names == (f"of{uid}:1",)
            assert own().prune(Pruning()).swept.freed == 0

        return work

    for uid, home in homes.items():
        as_user(load(uid), home, uid)
    stores = {uid: home / ".local/share/pyoverlay" for uid, home in homes.items()}

    def peek() -> None:
        other = stores[54321]
        with pytest.raises(PermissionError):
            list(other.iterdir())
        with pytest.raises(OverlayError, match="belongs to user 54321"):
            Store.open(other)
        assert [image.names for image in own().images()] == [("of54322:1",)]
        assert own().prune(Pruning(every=True)).untagged == ("of54322:1",)

    as_user(peek, homes[54322], 54322)
    assert [one.stat().st_mode & 0o777 for one in stores.values()] == [0o700, 0o700]
    assert {path.lstat().st_uid for path in everything(stores[54321])} == {54321}
    with pytest.raises(OverlayError, match="belongs to user 54321"):
        Store.open(stores[54321])
