"""How changes are kept."""

from dataclasses import dataclass

from overlayfs.union.redirects import Redirects


@dataclass(frozen=True, slots=True)
class Policy:
    """What whoever mounts may choose of the upper layer; names are the kernel's options.

    *redirects*: whether a directory with lower parts may be renamed.  *metacopy*: a change
    of attributes copies no data.  *strict*: a copy is on the disk before it has its name.
    *volatile*: nothing need survive a crash of the machine; *force* mounts what is left of
    such a mount after a crash.
    """

    redirects: Redirects = Redirects.FOLLOW
    metacopy: bool = False
    strict: bool = False
    volatile: bool = False
    force: bool = False


PLAIN = Policy()
