"""The option list of ``pyoverlayfs``: its meaning, as the kernel has it, and what is refused."""

import errno
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from overlayfs.cli.mountoptions import Wanted, parse
from overlayfs.errors import OverlayError
from overlayfs.union.ids import IdMap, Ids, Range
from overlayfs.union.names import Format
from overlayfs.union.policy import Policy
from overlayfs.union.presentation import Presentation
from overlayfs.union.redirects import Redirects
from overlayfs.waiting import Waiting
from tests.support.mounts import mount, unmount

LAYERS = "lowerdir=/l,upperdir=/u,workdir=/w"


def lowers(options: str) -> list[str]:
    return [str(path) for path in parse([options]).lowers]


def refusal(*words: str, sloppy: bool = False) -> OverlayError:
    with pytest.raises(OverlayError) as caught:
        parse(words, sloppy=sloppy)
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    return caught.value


# -- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lowerdir=/a", ["/a"]),
        ("lowerdir=/a:/b:/c", ["/a", "/b", "/c"]),
        (r"lowerdir=/a\:b:/c", ["/a:b", "/c"]),
        (r"lowerdir=/a\,b:/c", ["/a,b", "/c"]),
        (r"lowerdir=/a\\b:/c", ["/a\\b", "/c"]),
        (r"lowerdir=/a\\:/c", ["/a\\", "/c"]),
        (r"lowerdir=/\a\b:/c", ["/ab", "/c"]),
        ("lowerdir=/a:/c\\", ["/a", "/c"]),
        (r"lowerdir=/a\\\:b", [r"/a\:b"]),
        ("lowerdir=/a b: /c", ["/a b", " /c"]),
        ("lowerdir=/a=b:/c", ["/a=b", "/c"]),
        ("lowerdir=/a\nb", ["/a\nb"]),
        ('lowerdir="/a":/b', ['"/a"', "/b"]),
        ("lowerdir=l/A:l/B", ["l/A", "l/B"]),
        ("lowerdir=/a,lowerdir=/b:/c", ["/b", "/c"]),
        ("lowerdir=,lowerdir=/b:/c", ["/b", "/c"]),
        ("lowerdir+=/a,lowerdir+=/b", ["/a", "/b"]),
        ("lowerdir+=/a:b,lowerdir+=/c", ["/a:b", "/c"]),
        (r"lowerdir+=/a\:b,lowerdir+=/c\\d", [r"/a\:b", r"/c\\d"]),
        (",,lowerdir=/a,,", ["/a"]),
        ('lowerdir=/a,context="system_u:object_r:file_t:s0:c1,c2",ro', ["/a"]),
        ('fscontext="a,lowerdir=/b",lowerdir=/a', ["/a"]),
        ('lowerdir=/a/context="b', ['/a/context="b']),
    ],
)
def test_names_of_lower_directories(text: str, expected: list[str]) -> None:
    assert lowers(text) == expected


@pytest.mark.parametrize("name", ["upperdir", "workdir"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [("/a:b", "/a:b"), (r"/a\:b\,c\\d", "/a:b,c\\d"), ("/a b", "/a b"), ("/a\\", "/a")],
)
def test_names_of_what_takes_the_changes(name: str, text: str, expected: str) -> None:
    wanted = parse([LAYERS, f"{name}={text}"])
    assert str(wanted.upper if name == "upperdir" else wanted.work) == expected


@pytest.mark.parametrize(
    "text",
    [":/a", "/a:", "/a::/b", "/a:::/b", ":", "::", "", "/a:/b::/c", "/a,lowerdir="],
)
def test_no_lower_directory_is_without_a_name(text: str) -> None:
    assert refusal(f"lowerdir={text}").message.startswith("lowerdir=")


def test_one_way_of_naming_lower_directories_a_mount() -> None:
    for text in ("lowerdir=/a,lowerdir+=/b", "lowerdir+=/a,lowerdir=/b"):
        assert "lowerdir= and lowerdir+= cannot be mixed" in refusal(text).message
    assert refusal("lowerdir+=").message.startswith("lowerdir+=")


def test_option_lists_follow_each_other() -> None:
    wanted = parse(["lowerdir=/a,ro", "lowerdir=/b,rw,upperdir=/u", "workdir=/w"])
    assert wanted == parse(["lowerdir=/b,upperdir=/u,workdir=/w"])


# -- as the kernel reads it ----------------------------------------------------------------

NAMES = ["a", "b", "c", "a:b", "a,b", "a\\b", "b\\", " a", "a=b", '"a"', "a\nb", "é"]
UPPERS = ["up", "u:p", "u,p"]
SEEDS = range(400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, needs_kernel_overlay: None) -> Iterator[Path]:
    """The current directory, with one for each of NAMES and UPPERS.

    What two layers show together tells which they are, and their order.
    """
    base = tmp_path_factory.mktemp("layers")
    for name in (*NAMES, *UPPERS, "work", "mnt"):
        (base / name).mkdir()
    for number, name in enumerate(NAMES):
        (base / name / f"is {number}").touch()
        for other in range(len(NAMES)):
            if other != number:
                (base / name / f"not {other}").write_text(str(number))
    for name in UPPERS:
        (base / name / "upper").write_text(name)
    before = Path.cwd()
    os.chdir(base)
    yield base
    os.chdir(before)


Chosen = tuple[str, set[int], int, int | None]


def by_kernel(options: str) -> Chosen | None:
    """The upper directory, all lower ones, the first, the second; None if the kernel refuses."""
    mnt = Path("mnt")
    try:
        mount("overlay", mnt, "overlay", options)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOENT):
            raise
        return None
    try:
        upper = (mnt / "upper").read_text()
        found = {number for number in range(len(NAMES)) if (mnt / f"is {number}").exists()}
        absent = next(number for number in range(len(NAMES)) if number not in found)
        top = int((mnt / f"not {absent}").read_text())
        second = int((mnt / f"not {top}").read_text()) if len(found) > 1 else None
    finally:
        unmount(mnt)
    return upper, found, top, second


def by_us(options: str) -> Chosen | None:
    """The same as the parser has it."""
    try:
        wanted = parse([options])
    except OverlayError:
        return None
    numbers = [NAMES.index(str(path)) for path in wanted.lowers if str(path) in NAMES]
    if len(numbers) < len(wanted.lowers) or str(wanted.upper) not in UPPERS:
        return None
    if wanted.work != Path("work") or len(set(numbers)) < len(numbers):
        return None
    return str(wanted.upper), set(numbers), numbers[0], numbers[1] if numbers[1:] else None


def escaped(chance: random.Random, text: str, marks: str) -> str:
    """*text* with a backslash before *marks*, and where none is needed."""
    return "".join(f"\\{char}" if char in marks or chance.random() < 0.1 else char for char in text)


def written(chance: random.Random) -> str:
    """An option list that somebody might write, often with a mistake in it."""
    some = chance.sample(NAMES, chance.choice([1, 2, 3]))
    upper = escaped(chance, chance.choice(UPPERS), ",\\")
    if chance.random() < 0.7:
        text = "lowerdir=" + ":".join(escaped(chance, name, ":,\\") for name in some)
    else:
        text = ",".join(f"lowerdir+={name}" for name in some)
    for _ in range(chance.choice([0, 0, 1, 2])):
        at = chance.randrange(len("lowerdir="), len(text) + 1)
        insert = chance.choice(["", "", "\\", ":", ",", "a", ",,", "\\\\", "lowerdir=b,"])
        text = text[:at] + insert + text[at + (not insert) :]
    words = [text, f"upperdir={upper}", "workdir=work", "redirect_dir=off"]
    if chance.random() < 0.3:
        chance.shuffle(words)
    return chance.choice([",", ",,"]).join(words) + chance.choice(["", "", ",", "\\"])


def is_refused_by_us(options: str) -> bool:
    """Data-only layers, options without a name, and ``lowerdir=`` that ends ``lowerdir+=``."""
    mixed = "lowerdir+=" in options and "lowerdir=" in options
    return "::" in options or ",=" in options or mixed


def test_names_are_those_that_the_kernel_reads(folder: Path) -> None:
    agreed = 0
    for seed in SEEDS:
        options = written(random.Random(seed))
        kernel, ours = by_kernel(options), by_us(options)
        if ours is None and is_refused_by_us(options):
            continue
        assert ours == kernel, f"seed {seed}: {options!r}"
        agreed += ours is not None
    assert agreed > len(SEEDS) / 4


# -- what is accepted ----------------------------------------------------------------------

WANTED = parse([LAYERS])


def with_policy(**what: object) -> Wanted:
    return replace(WANTED, policy=replace(Policy(), **what))


def with_presentation(**what: object) -> Wanted:
    return replace(WANTED, presentation=replace(Presentation(), **what))


def with_ids(users: IdMap = IdMap(), groups: IdMap = IdMap()) -> Wanted:  # noqa: B008 - frozen
    return with_presentation(ids=Ids(users, groups))


def squashed(number: int) -> IdMap:
    return IdMap(squash=number, ours=os.geteuid())


MAKE, FOLLOW, IGNORE = Redirects.MAKE, Redirects.FOLLOW, Redirects.IGNORE
TEN = IdMap((Range(0, 1000, 10),))
PODMANS = ":0:1:31000:31000:0:1:31001:31001:34536"
ITS_MAP = IdMap((Range(0, 1, 31000), Range(31000, 0, 1), Range(31001, 31001, 34536)))

# What the option does; nothing where it says how things are anyway.
MEANINGS: dict[str, Wanted] = {
    # the kernel's
    "redirect_dir=on": with_policy(redirects=MAKE),
    "redirect_dir=follow": with_policy(redirects=FOLLOW),
    "redirect_dir=off": WANTED,
    "redirect_dir=nofollow": with_policy(redirects=IGNORE),
    "metacopy=on": with_policy(metacopy=True),
    "metacopy=off": WANTED,
    "userxattr": replace(WANTED, format=Format.USERXATTR),
    "volatile": replace(with_policy(volatile=True), presentation=Presentation(sync=False)),
    "fsync=volatile": replace(with_policy(volatile=True), presentation=Presentation(sync=False)),
    "fsync=strict": with_policy(strict=True),
    "fsync=auto": WANTED,
    "index=on": with_policy(index=True),
    **dict.fromkeys(["index=off", "nfs_export=off", "verity=off"], WANTED),
    **dict.fromkeys(["xino", "xino=on", "xino=off", "xino=auto"], WANTED),
    **dict.fromkeys(["uuid=on", "uuid=off", "uuid=null", "uuid=auto"], WANTED),
    **dict.fromkeys(["default_permissions", "override_creds", "nooverride_creds"], WANTED),
    # fuse-overlayfs
    "uidmapping=0:1000:10": with_ids(TEN),
    "gidmapping=0:1000:10": with_ids(groups=TEN),
    f"uidmapping={PODMANS}": with_ids(ITS_MAP),
    f"gidmapping={PODMANS}": with_ids(groups=ITS_MAP),
    "uidmapping=": WANTED,
    "uidmapping=0:0:4294967295": with_ids(IdMap((Range(0, 0, 4294967295),))),
    "squash_to_root": with_ids(squashed(0), squashed(0)),
    "squash_to_uid=7": with_ids(squashed(7)),
    "squash_to_gid=7": with_ids(groups=squashed(7)),
    "squash_to_root,squash_to_uid=7": with_ids(squashed(7), squashed(0)),
    "static_nlink": with_presentation(one_link=True),
    "ino32_t": with_presentation(narrow=True),
    "noacl": with_presentation(acl=False),
    "noxattrs=1": with_presentation(xattrs=False),
    "noxattrs=0": WANTED,
    "timeout=0": with_presentation(timeout=0),
    "timeout=2.5": with_presentation(timeout=2.5),
    "timeout=1000000000.0": WANTED,  # its own default
    "fsync=0": with_presentation(sync=False),
    "fsync=1": WANTED,
    "xattr_permissions=0": WANTED,
    "xattr_permissions=1": replace(WANTED, format=Format.PRIVILEGED),
    "xattr_permissions=2": replace(WANTED, format=Format.USER),
    "userxattr,xattr_permissions=2": replace(WANTED, format=Format.USER),
    **dict.fromkeys(["threaded=0", "threaded=1", "fast_ino=0", "fast_ino=1"], WANTED),
    **dict.fromkeys(["writeback=0", "writeback=1", "plugins=", "context=x"], WANTED),
    **dict.fromkeys(["fscontext=x", "defcontext=x", "rootcontext=x"], WANTED),
    # ours
    "sync=strict": with_policy(strict=True),
    "sync=lazy": WANTED,
    "force": with_policy(force=True),
    **dict.fromkeys(["busy_poll=auto", "event_loop=fast"], WANTED),
    "busy_poll=off": replace(WANTED, waiting=Waiting(busy_poll=0)),
    "busy_poll=0": replace(WANTED, waiting=Waiting(busy_poll=0)),
    "busy_poll=25": replace(WANTED, waiting=Waiting(busy_poll=25e-6)),
    "busy_poll=1000": replace(WANTED, waiting=Waiting(busy_poll=1e-3)),
    "event_loop=plain": replace(WANTED, waiting=Waiting(plain=True)),
    "event_loop=plain,busy_poll=off": replace(WANTED, waiting=Waiting(plain=True, busy_poll=0)),
    # libfuse
    "allow_other": replace(WANTED, allow_other=True),
    "fsname=disk": replace(WANTED, fsname="disk"),
    r"fsname=a\,b": replace(WANTED, fsname="a,b"),
    "subtype=mine": replace(WANTED, subtype="mine"),
    **dict.fromkeys(["clone_fd", "max_threads=4", "max_idle_threads=-1"], WANTED),
    **dict.fromkeys(["nonempty", "big_writes"], WANTED),
    # podman, and mount(8) or fstab(5) in passing
    "private": WANTED,
    "ro": replace(WANTED, read_only=True, asked_read_only=True, work=None),
    "ro,rw": WANTED,
    "remount": replace(WANTED, remount=True),
    **dict.fromkeys(["rw", "suid", "dev", "exec", "atime", "async"], WANTED),
    **dict.fromkeys(["diratime", "nodiratime"], WANTED),
    **dict.fromkeys(["defaults", "relatime", "norelatime", "strictatime", "lazytime"], WANTED),
    **dict.fromkeys(["auto", "noauto", "user", "nouser", "users", "owner", "group"], WANTED),
    **dict.fromkeys(["_netdev", "nofail", "silent", "loud", "symfollow"], WANTED),
    **dict.fromkeys(["comment=systemd.automount", "uid=1000", "gid=1000"], WANTED),
    **dict.fromkeys(["x-systemd.automount", "x-gvfs-name=A B", "X-mount.mkdir=0700"], WANTED),
    **dict.fromkeys(["rprivate", "shared", "rshared", "slave", "rslave", "unbindable"], WANTED),
}


@pytest.mark.parametrize("options", MEANINGS)
def test_what_an_option_means(options: str) -> None:
    assert parse([f"{LAYERS},{options}"]) == MEANINGS[options]
    # podman's ways
    assert parse([f",{LAYERS},,{options},"]) == MEANINGS[options]


KERNELS_FLAGS = ["nosuid", "nodev", "noexec", "noatime", "nosymfollow", "dirsync"]


@pytest.mark.parametrize("flag", [*KERNELS_FLAGS, "sync", "allow_root", "auto_unmount", "debug"])
def test_flags_of_the_kernel_and_of_libfuse_are_passed_on(flag: str) -> None:
    assert parse([f"{LAYERS},{flag}"]) == replace(WANTED, to_kernel=(flag,))
    assert parse([f"{LAYERS},{flag},{flag}"]) == replace(WANTED, to_kernel=(flag,))


@pytest.mark.parametrize(
    "options",
    [
        *(f"{flag},{flag.removeprefix('no')}" for flag in KERNELS_FLAGS if flag != "dirsync"),
        "sync,async",
    ],
)
def test_the_last_of_two_opposite_flags_counts(options: str) -> None:
    assert parse([f"{LAYERS},{options}"]) == WANTED
    first, last = options.split(",")
    turned = first if first in KERNELS_FLAGS or first == "sync" else last
    assert parse([f"{LAYERS},{last},{first}"]) == replace(WANTED, to_kernel=(turned,))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("redirect_dir=on,redirect_dir=nofollow", with_policy(redirects=IGNORE)),
        ("metacopy=on,metacopy=off", WANTED),
        ("index=on,index=off", WANTED),
        ("timeout=5,timeout=0", with_presentation(timeout=0)),
        ("squash_to_uid=3,squash_to_uid=7", with_ids(squashed(7))),
        ("fsync=0,fsync=1", WANTED),
        ("fsync=bogus,fsync=auto", WANTED),
        ("xattr_permissions=1,xattr_permissions=2", replace(WANTED, format=Format.USER)),
        ("fsname=a,fsname=b", replace(WANTED, fsname="b")),
    ],
)
def test_the_last_value_counts(options: str, expected: Wanted) -> None:
    assert parse([f"{LAYERS},{options}"]) == expected


def test_without_an_upper_directory_a_mount_is_read_only() -> None:
    for text in (
        "lowerdir=/l",
        "lowerdir=/l,workdir=/w",
        "lowerdir=/l,rw",
        "lowerdir=/l,upperdir=",
    ):
        wanted = parse([text])
        assert (wanted.read_only, wanted.upper, wanted.work) == (True, None, None)
        assert not wanted.asked_read_only
    wanted = parse(["ro,lowerdir=/l,upperdir=/u"])  # no work directory is needed
    assert (wanted.read_only, wanted.upper, wanted.work) == (True, Path("/u"), None)


def test_a_remount_needs_no_directories() -> None:
    wanted = parse(["remount,ro,nosuid"])
    assert (wanted.remount, wanted.asked_read_only, wanted.to_kernel) == (True, True, ("nosuid",))
    assert not parse(["remount,rw"]).asked_read_only


# -- what is refused -----------------------------------------------------------------------

WRONG = [
    *("redirect_dir=maybe", "redirect_dir=", "metacopy=1", "xattr_permissions=3"),
    *("noxattrs=2", "noxattrs=", "fsync=2", "sync=often", "index=maybe", "xino=1", "uuid=x"),
    *("threaded=2", "fast_ino=x", "writeback=x", "nfs_export=maybe", "verity=maybe"),
    *("timeout=soon", "timeout=-1", "timeout=nan", "timeout=inf", "timeout="),
    *("squash_to_uid=root", "squash_to_uid=-1", "squash_to_gid=4294967296", "squash_to_gid="),
    *("squash_to_uid=4294967295", "uidmapping=1:0:4294967295"),
    *("uidmapping=0:1000", "uidmapping=0:1000:10:5", "uidmapping=a:b:c", "uidmapping=0:0:0"),
    *("uidmapping=-1:0:1", "gidmapping=0:0:4294967297", "gidmapping=4294967290:0:10"),
    *("gidmapping=0:4294967290:10", "uidmapping=0:0:10:5:100:10", "uidmapping=0:0:5:10:4:5"),
    *("uidmapping=1_0:0:1", "timeout=1_0"),
    *("busy_poll=on", "busy_poll=", "busy_poll=-1", "busy_poll=1001", "busy_poll=5us"),
    *("busy_poll=1_0", "busy_poll=2.5", "busy_poll=+5", "busy_poll=AUTO", "busy_poll=٣"),
    *("event_loop=", "event_loop=slow", "event_loop=trio"),
]


@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_value_is_refused_with_the_option(option: str) -> None:
    assert refusal(f"{LAYERS},{option}").message.startswith(f"{option}: ")
    # -s is for options that are not known
    assert refusal(f"{LAYERS},{option}", sloppy=True).message.startswith(f"{option}: ")


@pytest.mark.parametrize(
    "option", ["nfs_export=on", "verity=on", "verity=require", "datadir+=/d", "plugins=x"]
)
def test_what_cannot_be_done_is_refused_with_the_reason(option: str) -> None:
    said = refusal(f"{LAYERS},{option}")
    assert said.message.startswith(f"{option}: ")
    assert "unknown option" not in said.message


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("volatile,sync=strict", ("volatile", "sync=strict")),
        ("volatile,fsync=strict", ("volatile", "fsync=strict")),
        ("volatile,fsync=1", ("volatile", "fsync=1")),
        ("fsync=volatile,sync=strict", ("volatile", "sync=strict")),
        ("metacopy=on,redirect_dir=nofollow", ("metacopy=on", "redirect_dir=nofollow")),
        ("userxattr,xattr_permissions=1", ("userxattr", "xattr_permissions=1")),
        ("event_loop=plain,busy_poll=50", ("event_loop=plain", "busy_poll=50")),
    ],
)
def test_options_that_contradict_each_other_are_both_named(
    options: str, names: tuple[str, str]
) -> None:
    for text in (options, ",".join(reversed(options.split(",")))):
        said = refusal(f"{LAYERS},{text}").message
        assert all(name in said for name in names), said


def test_a_work_directory_is_needed_and_so_are_lower_ones() -> None:
    assert "workdir=" in refusal("lowerdir=/l,upperdir=/u").message
    for text in ("", "upperdir=/u,workdir=/w", "ro"):
        assert "lowerdir=" in refusal(text).message


UNKNOWN = [
    *("bogus", "bogus=1", "lowerdirs=/l", "LOWERDIR=/l", "Volatile", " ro", "nolowerdir"),
    *("ro=1", "volatile=1", "nosuid=", "squash_to_root=1", "force=1", "allow_other=0", "=x"),
    *("timeout", "redirect_dir", "metacopy", "fsync", "upperdir", "lowerdir", "lowerdir+"),
    *("bogus\\,ro", "x_y", "context"),
]


@pytest.mark.parametrize("option", UNKNOWN)
def test_unknown_options_are_refused_by_name_unless_sloppy(option: str) -> None:
    assert refusal(f"{LAYERS},{option}").message == f"{option}: unknown option"
    assert parse([f"{LAYERS},{option}"], sloppy=True) == WANTED
