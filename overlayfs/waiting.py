"""A choice of whoever mounts that all but the layers pass on."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Waiting:
    """How whoever serves a mount waits for requests.

    With *plain* as pyfuse3 does it, else in a faster way: with polling for *busy_poll*
    seconds after each one (0 for none), or as long as it pays.
    """

    plain: bool = False
    busy_poll: float | None = None


AS_IT_PAYS = Waiting()
