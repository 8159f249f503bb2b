"""What a look at one thing tells."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a thing is: as it should be, in the way of some uses, or in the way of all."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing by *name*, how it is, what was seen, and what to do about it."""

    name: str
    state: State
    said: str
    fix: str = ""


def ok(name: str, said: str) -> Finding:
    """Nothing is wrong with it."""
    return Finding(name, State.OK, said)


def warn(name: str, said: str, fix: str) -> Finding:
    """Something will not work, or worse than it could."""
    return Finding(name, State.WARN, said, fix)


def fail(name: str, said: str, fix: str) -> Finding:
    """Nothing can be mounted, or kept, before that is mended."""
    return Finding(name, State.FAIL, said, fix)
