"""One hostile image: how it is made, and what must come of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from overlayfs.union.names import Format
from tests.support.archives import Made, Members, from_1_10, write_directory, write_tar
from tests.support.layers import Item, tar

# Stands for the absolute path of the decoys in names, targets and values.
OUT = "@OUT@"
# More steps up than any path of a test has down.
UP = "../" * 40

Tree = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ground:
    """A folder of its own for each case: the decoys, the image, the store."""

    base: Path

    @classmethod
    def make(cls, base: Path) -> "Ground":
        """The folder *base* with decoys in it: what an escape would find, change or bring in."""
        ground = cls(base)
        out = ground.outside
        (out / "dir/sub").mkdir(parents=True)
        (out / "kept").write_text("secret of the host\n")
        (out / "dir/sub/kept").write_text("another secret\n")
        (out / "link").symlink_to("kept")
        (out / "kept").chmod(0o600)
        return ground

    @property
    def outside(self) -> Path:
        """What no image may touch or show."""
        return self.base / "outside"

    def aimed(self, text: str) -> str:
        """*text* with the decoys' path in it."""
        return text.replace(OUT, str(self.outside))

    def items(self, items: tuple[Item, ...]) -> tuple[Item, ...]:
        """*items*, aimed at the decoys."""
        return tuple(
            Item(
                self.aimed(one.name),
                one.type,
                one.data,
                one.mode,
                one.uid,
                one.gid,
                one.mtime,
                self.aimed(one.target),
                one.device,
                {key: self.aimed(value) for key, value in one.pax.items()},
            )
            for one in items
        )


Build = Callable[[Ground], Path | str]


@dataclass(frozen=True, slots=True)
class Case:
    """*tree* is what must show, *says* a part of the one line that refuses.

    With both, the first is for plain users' stores, whose files keep attributes that the
    kernel checks in root's.  *spare* cases take long: they go through one door only.
    """

    name: str
    build: Build
    tree: Callable[[Ground], Tree] | None = None
    says: str | None = None
    spare: bool = False
    env: Mapping[str, str] = field(default_factory=dict)

    def given(self, env: Mapping[str, str]) -> "Case":
        """The same with these variables in the environment."""
        return replace(self, env=env)

    def expected(self, ground: Ground, fmt: Format) -> Tree | str:
        """The tree, or a part of the message."""
        if self.says is not None and (self.tree is None or fmt is Format.KERNEL):
            return self.says
        assert self.tree is not None, f"{self.name} expects nothing"
        return {ground.aimed(path): ground.aimed(what) for path, what in self.tree(ground).items()}


Layer = bytes | tuple[Item, ...] | Callable[[Ground], bytes]


def made(ground: Ground, layers: tuple[Layer, ...]) -> Made:
    """The image of *layers*, base first."""
    return Made(tuple(_bytes(ground, layer) for layer in layers))


def _bytes(ground: Ground, layer: Layer) -> bytes:
    if isinstance(layer, bytes):
        return layer
    return tar(*ground.items(layer)) if isinstance(layer, tuple) else layer(ground)


def aimed_tree(tree: Tree | Callable[[Ground], Tree] | None) -> Callable[[Ground], Tree] | None:
    """*tree* as a function of where the decoys are."""
    return tree if tree is None or callable(tree) else lambda _: tree


def stack(
    name: str,
    *layers: Layer,
    tree: Tree | Callable[[Ground], Tree] | None = None,
    says: str | None = None,
    spare: bool = False,
) -> Case:
    """An archive of ``docker save`` with these layers, base first."""

    def build(ground: Ground) -> Path:
        image = made(ground, layers)
        return write_tar(ground.base / "image.tar", from_1_10([(image, ["hostile:1"])]))

    return Case(name, build, aimed_tree(tree), says, spare)


def one(
    name: str,
    *items: Item,
    tree: Tree | Callable[[Ground], Tree] | None = None,
    says: str | None = None,
) -> Case:
    """An image of one layer with these entries."""
    return stack(name, items, tree=tree, says=says)


def archive(
    name: str,
    members: Callable[[Ground], Members] | Members,
    tree: Tree | None = None,
    says: str | None = None,
    *,
    choice: str = "",
) -> Case:
    """A tar with these members, of which *choice* chooses an image."""

    def build(ground: Ground) -> str:
        found = members(ground) if callable(members) else members
        return str(write_tar(ground.base / "image.tar", found)) + choice

    return Case(name, build, aimed_tree(tree), says)


def directory(
    name: str,
    members: Callable[[Ground], Members] | Members,
    tree: Tree | None = None,
    says: str | None = None,
    *,
    spoil: Callable[[Ground, Path], None] | None = None,
) -> Case:
    """A directory with these files, after *spoil* has been at it."""

    def build(ground: Ground) -> Path:
        found = members(ground) if callable(members) else members
        path = write_directory(ground.base / "image", found)
        if spoil:
            spoil(ground, path)
        return path

    return Case(name, build, aimed_tree(tree), says)


def file_of(
    name: str,
    data: Callable[[Ground], bytes],
    tree: Tree | None = None,
    says: str | None = None,
    *,
    called: str = "image.tar",
    spare: bool = False,
) -> Case:
    """A file with these bytes."""

    def build(ground: Ground) -> Path:
        path = ground.base / ground.aimed(called)
        path.write_bytes(data(ground))
        return path

    return Case(name, build, aimed_tree(tree), says, spare)
