"""Times as docker's lists show them."""

from datetime import UTC, datetime

UNKNOWN = "N/A"


def moment(written: str) -> datetime | None:
    """The time that an image has *written* (RFC 3339), None for none, another, and Go's zero."""
    try:
        found = datetime.fromisoformat(written)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):  # the latter beyond the years that Python has
        return None
    return None if found.year == 1 else found


def ago(when: datetime | None, now: datetime) -> str:
    """How long before *now* that was, in the words of docker's units.HumanDuration."""
    if when is None:
        return UNKNOWN
    seconds = int((now - when).total_seconds())
    return f"{_duration(max(seconds, 0))} ago"


def _duration(seconds: int) -> str:
    minutes, hours = seconds // 60, round(seconds / 3600)
    if seconds < 60:
        return {0: "Less than a second", 1: "1 second"}.get(seconds, f"{seconds} seconds")
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    for unit, length, least in (
        ("years", 24 * 365, 2),
        ("months", 24 * 30, 2),
        ("weeks", 24 * 7, 2),
        ("days", 24, 2),
    ):
        if hours >= least * length:
            return f"{hours // length} {unit}"
    return "About an hour" if hours == 1 else f"{hours} hours"


def written_out(when: datetime | None) -> str:
    """The time as docker's ``CreatedAt`` has it: ``2024-01-02 03:04:05 +0000 UTC``."""
    return UNKNOWN if when is None else when.strftime("%Y-%m-%d %H:%M:%S %z %Z")
