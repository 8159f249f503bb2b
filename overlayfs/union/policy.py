"""How changes are kept."""

from dataclasses import dataclass
from enum import StrEnum

from overlayfs.union.redirects import Redirects


class WhiteoutKind(StrEnum):
    """How an upper layer hides a name of the layers below; see ``layers.whiteouts``."""

    AUTO = "auto"
    DEVICE = "device"
    ATTRIBUTE = "xattr"
    MARKER = "oci"


@dataclass(frozen=True, slots=True)
class Policy:
    """What whoever mounts may choose of the upper layer; names are the kernel's options.

    *redirects*: whether a directory with lower parts may be renamed, and who may say that it
    was.  *metacopy*: a change of attributes copies no data.  *strict*: a copy is on the disk
    before it has its name.  *volatile*: nothing need survive a crash of the machine; *force*
    mounts what is left of such a mount after a crash.  *whiteouts*: AUTO takes the first of
    the others that the file system can do.  *index*: names of a hard-linked file that are not
    touched stay out of the upper layer, where the kernel could leave them out as well.
    """

    redirects: Redirects = Redirects.OFF
    metacopy: bool = False
    strict: bool = False
    volatile: bool = False
    force: bool = False
    whiteouts: WhiteoutKind = WhiteoutKind.AUTO
    index: bool = False


PLAIN = Policy()
