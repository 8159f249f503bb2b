"""Telling a service manager that this service has started; sd_notify(3)."""

import os


def ready() -> None:
    """Say so on the socket that ``$NOTIFY_SOCKET`` names, if it does.

    A name that begins with ``@`` is in the abstract namespace: unix(7).
    """
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    # Seldom needed; a daemon has it, by way of its event loop, before its mount covers anything.
    import socket

    address = "\0" + name[1:] if name.startswith("@") else name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(b"READY=1", address)
