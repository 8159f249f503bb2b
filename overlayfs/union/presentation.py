"""How a tree is shown, whatever it is made of."""

from dataclasses import dataclass

from overlayfs.union.ids import PLAIN, Ids

# Lower layers never change and the upper one changes only through the mount, so the kernel
# may keep what it was told until it is told otherwise: seconds, well below overflow.
FOREVER = 1e9


@dataclass(frozen=True, slots=True)
class Presentation:
    """What whoever mounts may choose.

    *timeout* is for how many seconds the kernel may keep names and attributes.  With
    *one_link* all directories have the link count 1.  With *narrow* inode numbers have 32
    bits, for programs that know no others, and mean nothing at the next mount.  Without
    *xattrs* there are no extended attributes, without *acl* no access lists; without
    *sync* fsync(2) waits for nothing.
    """

    ids: Ids = PLAIN
    timeout: float = FOREVER
    one_link: bool = False
    narrow: bool = False
    xattrs: bool = True
    acl: bool = True
    sync: bool = True


AS_IT_IS = Presentation()
