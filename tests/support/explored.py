"""An image to explore: some layers over a small system, the same bytes each time."""

from pathlib import Path
from typing import Any

from tests.support.archives import Made, from_25, write_tar
from tests.support.layers import Item, file, folder, link, symlink, tar

NAME = "shop:2.1"

_CREATED = "2024-05-06T07:08:09Z"
_LAYERS: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "/bin/sh -c #(nop) ADD file:7b2e95b2aa9e81e5 in / ",
        (
            folder("bin"),
            file("bin/busybox", b"\x7fELF" + bytes(1_000_000), mode=0o755),
            symlink("bin/sh", "busybox"),
            file("bin/su", b"\x7fELF" + bytes(60_000), mode=0o4755),
            folder("etc"),
            file("etc/motd", b"Welcome.\n"),
            file("etc/os-release", b'NAME="Small"\nVERSION_ID=3\n'),
            file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
            file("etc/shadow", b"root:*:19000:0:99999:7:::\n", mode=0o640, gid=42),
            folder("root", mode=0o700),
            folder("tmp", mode=0o1777),
            folder("usr"),
            folder("usr/lib"),
            file("usr/lib/libc.so.6", bytes(1_900_000), mode=0o755),
            folder("var"),
            folder("var/cache"),
        ),
    ),
    ("/bin/sh -c #(nop)  ENV LANG=C.UTF-8", ()),
    (
        "/bin/sh -c apk add python3",
        (
            folder("etc"),
            file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\npython:x:33:33::/srv:/bin/sh\n"),
            folder("usr"),
            folder("usr/bin"),
            file("usr/bin/python3.12", bytes(6_500_000), mode=0o755),
            symlink("usr/bin/python3", "python3.12"),
            folder("usr/lib"),
            folder("usr/lib/python3.12"),
            file("usr/lib/python3.12/abc.py", b"# abstract\n" * 200),
            file("usr/lib/python3.12/argparse.py", b"# arguments\n" * 8000),
            file("usr/lib/python3.12/json.py", b"# json\n" * 500),
            folder("var"),
            folder("var/cache"),
            folder("var/cache/apk"),
            file("var/cache/apk/index.tar.gz", bytes(2_400_000)),
            file("var/cache/apk/python3.apk", bytes(5_100_000)),
        ),
    ),
    (
        "/bin/sh -c rm -rf /var/cache/apk /etc/motd",
        (
            folder("etc"),
            file("etc/.wh.motd"),
            folder("var"),
            folder("var/cache"),
            file("var/cache/.wh.apk"),
        ),
    ),
    (
        "COPY shop /srv/shop # buildkit",
        (
            folder("srv"),
            folder("srv/shop"),
            file("srv/shop/app.py", b'print("a shop")\n' * 40, uid=33, gid=33),
            file("srv/shop/secret.key", b"not for everybody\n", mode=0o600),
            file("srv/shop/logo.png", b"\x89PNG" + bytes(240_000)),
            link("srv/shop/logo-small.png", "srv/shop/logo.png"),
            folder("srv/shop/templates"),
            file("srv/shop/templates/index.html", b"<h1>Shop</h1>\n" * 90),
        ),
    ),
    (
        "RUN /bin/sh -c chmod 755 /srv/shop/app.py && rm /srv/shop/secret.key # buildkit",
        (
            folder("srv"),
            folder("srv/shop"),
            file("srv/shop/app.py", b'print("a shop")\n' * 40, mode=0o755, uid=33, gid=33),
            file("srv/shop/.wh.secret.key"),
        ),
    ),
    ('ENTRYPOINT ["python3" "/srv/shop/app.py"]', ()),
)


def sample() -> Made:
    """An image of five layers and two steps that change no file."""
    history: list[dict[str, Any]] = [
        {"created": _CREATED, "created_by": created_by, **({} if items else {"empty_layer": True})}
        for created_by, items in _LAYERS
    ]
    return Made(
        tuple(tar(*items) for _, items in _LAYERS if items),
        {
            "created": _CREATED,
            "history": history,
            "config": {"Entrypoint": ["python3", "/srv/shop/app.py"]},
        },
    )


def write_sample(path: Path) -> Path:
    """That image, as ``docker save`` of Docker 25 writes it."""
    return write_tar(path, from_25(sample(), NAME))
