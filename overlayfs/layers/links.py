"""Hard links of one layer that is being written, or that a tar would write."""

from collections.abc import Callable, Iterable

from overlayfs.layers.directories import Directory, Tree, everything

Place = tuple[Directory, bytes]


class Links:
    """Which names share a file, and which want one that the layer does not have."""

    def __init__(self, directories: Tree, link: Callable[[Place, Place], bool]) -> None:
        """*link* makes the second place a name of the first; False when that is not there."""
        self._directories = directories
        self._link = link
        # Each name's group, in the order in which they were made.
        self._groups: dict[Place, dict[Place, None]] = {}
        self._foreign: dict[Place, bytes] = {}

    def make(self, place: Place, target: bytes) -> None:
        """Let *place*, which is free, be a name of the file *target*.

        What is not in this layer is left to be found in a lower one.  Raises ValueError for
        a directory.
        """
        folder, _, name = target.rpartition(b"/")
        try:
            found = self._directories.find(folder)
        except NotADirectoryError:
            found = None
        if found is not None and name in found.children:
            raise ValueError("a hard link to a directory")
        if found is None:
            self._foreign[place] = target
            return
        source = found, name
        if source in self._foreign or not self._link(source, place):
            self._foreign[place] = self._foreign.get(source, target)
            return
        group = self._groups.setdefault(source, {source: None})
        group[place] = None
        self._groups[place] = group

    def is_itself(self, place: Place, target: bytes) -> bool:
        """Whether *target* is *place* already, as tar(1) writes for a file given twice."""
        folder, _, name = target.rpartition(b"/")
        try:
            found = self._directories.find(folder)
            if found is None or (found, name) != place:
                return False
            self._directories.target(found, name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def awaits(self, place: Place) -> bool:
        """Whether *place* is to be a name of a file of a lower layer."""
        return place in self._foreign

    def replaced(self, place: Place) -> None:
        """*place* was given to another file; a link that waits there would be in its way."""
        if self._foreign:
            self._foreign.pop(place, None)

    def forget(self, place: Place) -> None:
        """*place* is about to be removed."""
        self._foreign.pop(place, None)
        group = self._groups.pop(place, None)
        if group is not None:
            del group[place]

    def forget_beneath(self, directory: Directory) -> None:
        """*directory* is about to be removed with all it holds."""
        gone = set(everything(directory))
        for place in [place for place in (*self._groups, *self._foreign) if place[0] in gone]:
            self.forget(place)

    def groups(self) -> Iterable[Iterable[Place]]:
        """The names of each file that has several."""
        return {id(group): group for group in self._groups.values() if len(group) > 1}.values()

    def aliases(self) -> tuple[tuple[bytes, ...], ...]:
        """The paths of each file that has several."""
        return tuple(tuple(path_of(place) for place in group) for group in self.groups())

    def foreign(self) -> tuple[tuple[bytes, bytes], ...]:
        """The links that a lower layer must complete, as (path, target)."""
        return tuple(
            sorted(
                (path_of(place), target)
                for place, target in self._foreign.items()
                # An entry further on may have made a directory of the name.
                if place[1] not in place[0].children
            )
        )


def path_of(place: Place) -> bytes:
    """The path of a name in a directory."""
    above = place[0].path
    return above + b"/" + place[1] if above else place[1]
