"""Who is to keep and mount images."""

import os
import pwd
from dataclasses import dataclass
from typing import Self

from overlayfs.linux.namespaces import is_root


@dataclass(frozen=True, slots=True)
class Person:
    """A user: *mighty* as root of the machine is, *rootlike* as root of a user namespace, too."""

    uid: int
    name: str
    mighty: bool

    @classmethod
    def here(cls) -> Self:
        """Who runs this process."""
        uid = os.geteuid()
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)  # containers run users that are in no list
        return cls(uid, name, is_root())

    @property
    def rootlike(self) -> bool:
        """Whether the kernel lets him mount by himself."""
        return self.uid == 0
