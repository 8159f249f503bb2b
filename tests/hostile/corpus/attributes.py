"""Extended attributes that would speak to a union file system, or to the kernel."""

import base64
import struct

from tests.hostile.blocks import END, entry, pax
from tests.hostile.case import OUT, Case, one, stack
from tests.support.layers import Item, file, folder, symlink

LOWER = (file("d/low", b"lower"), file("top", b"lower"))


def with_attribute(name: str, key: str, value: str, *, shown: bool = True) -> Case:
    """A directory over a lower one, and a file over a lower one, with the attribute."""
    fields = {f"SCHILY.xattr.{key}": value}
    more = f" {key}={value}" if shown else ""
    return stack(
        name,
        LOWER,
        (folder("d", pax=fields), file("d/new", b"1"), file("top", b"upper", pax=fields)),
        tree={
            "d": "dir" + more,
            "d/low": "file lower",
            "d/new": "file 1",
            "top": "file upper" + more,
        },
    )


def acl(*entries: tuple[int, int, int]) -> str:
    """A POSIX access list as the kernel keeps it."""
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)
    return base64.b64encode(data).decode()


ANY = 0xFFFFFFFF
GOOD = acl((1, 6, ANY), (2, 4, 5), (4, 4, ANY), (16, 4, ANY), (32, 4, ANY))

CASES = [
    *(
        with_attribute(f"overlay-{prefix.partition('.')[0]}-{key}", f"{prefix}.{key}", value)
        for prefix in ("trusted.overlay", "user.overlay")
        for key, value in {
            "opaque": "y",
            "redirect": "/d",
            "metacopy": "",
            "origin": "\0\xfb",
            "whiteout": "",
            "impure": "y",
            "nlink": "U+1",
            "upper": "x",
            "overlay.opaque": "y",
            "pyoverlay.origin": "1",
        }.items()
        if "\xfb" not in value
    ),
    with_attribute("override-containers", "user.containers.override_stat", "0:0:4777:file"),
    with_attribute(
        "override-containers-device", "user.containers.override_stat", "0:0:0666:block-8-0"
    ),
    with_attribute("override-containers-garbage", "user.containers.override_stat", "garbage"),
    with_attribute("override-fuse-overlayfs", "user.fuseoverlayfs.override_stat", "0:0:0777"),
    with_attribute("override-fuse-overlayfs-opaque", "user.fuseoverlayfs.opaque", "y"),
    with_attribute("override-fuse-overlayfs-origin", "user.fuseoverlayfs.origin", OUT),
    with_attribute("override-privileged", "security.fuseoverlayfs.override_stat", "0:0:0777"),
    with_attribute("override-of-override", "user.containers.override_user.x", "1"),
    with_attribute("own-attributes", "user.pyoverlay.layer", "77"),
    with_attribute("user-attribute", "user.anything", "value"),
    with_attribute("trusted-attribute", "trusted.anything", "value"),
    one(
        "override-on-the-root",
        folder(
            ".",
            pax={
                "SCHILY.xattr.user.containers.override_stat": "0:0:0700:dir",
                "SCHILY.xattr.user.fuseoverlayfs.override_stat": "0:0:0700:dir",
            },
        ),
        file("f", b"1"),
        tree={
            "": "dir user.containers.override_stat=0:0:0700:dir"
            " user.fuseoverlayfs.override_stat=0:0:0700:dir",
            "f": "file 1",
        },
    ),
    one(
        "overlay-opaque-on-the-root",
        folder(".", pax={"SCHILY.xattr.trusted.overlay.opaque": "y"}),
        file("f", b"1"),
        tree={"": "dir trusted.overlay.opaque=y", "f": "file 1"},
    ),
    stack(
        "overlay-opaque-on-an-upper-root",
        LOWER,
        (
            folder(
                ".",
                pax={
                    "SCHILY.xattr.trusted.overlay.opaque": "y",
                    "SCHILY.xattr.user.overlay.opaque": "y",
                },
            ),
            file("f", b"1"),
        ),
        tree={
            "": "dir trusted.overlay.opaque=y user.overlay.opaque=y",
            "d": "dir",
            "d/low": "file lower",
            "top": "file lower",
            "f": "file 1",
        },
    ),
    stack(
        "overlay-by-libarchive",
        LOWER,
        (
            folder(
                "d",
                pax={"LIBARCHIVE.xattr.trusted.overlay.opaque": base64.b64encode(b"y").decode()},
            ),
        ),
        tree={"d": "dir trusted.overlay.opaque=y", "d/low": "file lower", "top": "file lower"},
    ),
    stack(
        "overlay-redirect-to-another-layer",
        (file("secret/x", b"lower"),),
        (file(".wh.secret"),),
        (folder("d", pax={"SCHILY.xattr.trusted.overlay.redirect": "/secret"}),),
        tree={"d": "dir trusted.overlay.redirect=/secret"},
    ),
    stack(
        "overlay-metacopy-of-nothing",
        (
            file(
                "f",
                b"1",
                pax={
                    "SCHILY.xattr.trusted.overlay.metacopy": "",
                    "SCHILY.xattr.trusted.overlay.redirect": "/etc/passwd",
                },
            ),
        ),
        tree={"f": "file 1 trusted.overlay.metacopy= trusted.overlay.redirect=/etc/passwd"},
    ),
    one(
        "attribute-without-a-name",
        file("f", pax={"SCHILY.xattr.": "1"}),
        says="an extended attribute called b''",
    ),
    one(
        "attribute-without-a-namespace",
        file("f", pax={"SCHILY.xattr.bad": "1"}),
        says="an extended attribute called b'bad'",
    ),
    one(
        "attribute-of-a-namespace-alone",
        file("f", pax={"SCHILY.xattr.user.": "1"}),
        says="an extended attribute called",
    ),
    one(
        "attribute-of-an-unknown-namespace",
        file("f", pax={"SCHILY.xattr.nobody.x": "1"}),
        says="extended attribute nobody.x",
    ),
    stack(
        "attribute-with-nul",
        pax((b"SCHILY.xattr.user.a\0b", b"1")) + entry() + END,
        says="an extended attribute called",
    ),
    one(
        "attribute-name-too-long",
        file("f", pax={"SCHILY.xattr.user." + "n" * 300: "1"}),
        says="extended attribute user.nnn",
    ),
    one(
        "attribute-value-too-long",
        file("f", pax={"SCHILY.xattr.user.a": "x" * 70000}),
        says="extended attribute user.a of 70000 bytes",
    ),
    one(
        "attributes-too-many",
        file("f", pax={f"SCHILY.xattr.user.{at:05}": "x" * 60 for at in range(3000)}),
        says="keeps for one file",
    ),
    one(
        "attribute-not-base64",
        file("f", pax={"LIBARCHIVE.xattr.user.a": "!"}),
        says="is not base64",
    ),
    one(
        "attribute-escaped-name",
        file("f", pax={"LIBARCHIVE.xattr.user.%2e%2e%2f": "MQ=="}),
        tree={"f": "file user.../=1"},
    ),
    one(
        "attribute-escaped-nul",
        file("f", pax={"LIBARCHIVE.xattr.user.%00": "MQ=="}),
        says="an extended attribute called",
    ),
    one(
        "attribute-for-a-terminal",
        file("f", pax={"SCHILY.xattr.nobody.\x1b[2J\u202e": "1"}),
        says="nobody.\\x1b[2J\\u202e",
    ),
    one(
        "attributes-of-a-link",
        symlink("s", OUT, pax={"SCHILY.xattr.user.a": "1"}),
        tree={"s": f"-> {OUT}"},
    ),
    one(
        "attributes-of-a-link-trusted",
        symlink("s", OUT + "/kept", pax={"SCHILY.xattr.trusted.a": "1"}),
        tree={"s": f"-> {OUT}/kept trusted.a=1"},
    ),
    one(
        "attributes-of-a-fifo",
        Item("p", b"6", pax={"SCHILY.xattr.user.a": "1"}),
        tree={"p": "pipe"},
    ),
    one(
        "capability-that-is-none",
        file("f", b"1", pax={"SCHILY.xattr.security.capability": "garbage"}),
        says="extended attribute security.capability",
        tree={"f": "file 1 security.capability=garbage"},
    ),
    one(
        "capability",
        file(
            "f",
            b"1",
            mode=0o755,
            pax={"SCHILY.xattr.security.capability": "\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"},
        ),
        tree={
            "f": "file 1 mode=755 security.capability=\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        },
    ),
    one(
        "access-list-that-is-none",
        file("f", b"1", pax={"SCHILY.xattr.system.posix_acl_access": "garbage"}),
        says="extended attribute system.posix_acl_access",
        tree={"f": "file 1 system.posix_acl_access=garbage"},
    ),
    one(
        "access-list-unknown-version",
        file(
            "f",
            b"1",
            pax={
                "LIBARCHIVE.xattr.system.posix_acl_access": base64.b64encode(b"\7\0\0\0").decode()
            },
        ),
        says="system.posix_acl_access",
        tree={"f": "file 1 system.posix_acl_access=\7\0\0\0"},
    ),
    one(
        "access-list-default-of-a-file",
        file("f", b"1", pax={"LIBARCHIVE.xattr.system.posix_acl_default": GOOD}),
        says="system.posix_acl_default",
        tree={
            "f": "file 1 system.posix_acl_default="
            + base64.b64decode(GOOD).decode("utf-8", "backslashreplace")
        },
    ),
    one(
        "unknown-of-system",
        file("f", b"1", pax={"SCHILY.xattr.system.nfs4_acl": "x"}),
        says="system.nfs4_acl",
        tree={"f": "file 1 system.nfs4_acl=x"},
    ),
]
