"""The command line of ``pyoverlayfs``, as itself and as a helper of mount(8)."""

import sys
from pathlib import Path

import pytest

from overlayfs.cli import mountprogram
from overlayfs.version import VERSION
from tests.support.union import Stack, write

HELPER = "/sbin/mount.fuse.pyoverlayfs"


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> "Invoke":
    return Invoke(monkeypatch, capfd)


class Invoke:
    """Runs the command in this process, where nothing is to be mounted."""

    def __init__(self, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._captured = captured

    def __call__(self, *words: str, name: str = "pyoverlayfs") -> tuple[object, str, str]:
        """Exit code, stdout and stderr."""
        self._patch.setattr(sys, "argv", [name, *words])
        code: object = 0
        try:
            mountprogram.main()
        except SystemExit as exc:
            code = exc.code
        return code, *self._captured.readouterr()

    def refused(self, *words: str, name: str = "pyoverlayfs", code: int = 1) -> str:
        """The complaint: one line, and a hint perhaps; the exit code *code*, and no output."""
        ended, out, said = self(*words, name=name)
        assert (ended, out) == (code, "")
        first, *hint = said.splitlines()
        assert len(hint) < 2
        assert all(line.startswith("  ") for line in hint)
        assert first.startswith("pyoverlayfs: ")
        return first.removeprefix("pyoverlayfs: ")


# -- words and letters ---------------------------------------------------------------------


@pytest.mark.parametrize("words", [["-V"], ["--version"], ["-V", "/m"], ["-fV"], ["-o", "x", "-V"]])
def test_the_version(invoke: Invoke, words: list[str]) -> None:
    assert invoke(*words) == (0, f"pyoverlayfs {VERSION}\n", "")


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["-h", "-V"], ["-dh", "/mnt"]])
def test_the_help_names_every_option_that_does_something(invoke: Invoke, words: list[str]) -> None:
    code, out, said = invoke(*words)
    assert (code, said) == (0, "")
    for name in (
        *("lowerdir=", "lowerdir+=", "upperdir=", "workdir=", "userxattr", "redirect_dir="),
        *("metacopy=", "sync=strict", "volatile", "fsync=", "force", "uidmapping=", "gidmapping="),
        *("squash_to_root", "squash_to_uid=", "squash_to_gid=", "xattr_permissions=", "noxattrs="),
        *("noacl", "static_nlink", "ino32_t", "timeout=", "ro", "nosuid", "nodev", "noexec"),
        *("busy_poll=", "event_loop="),
        *("noatime", "allow_other", "fsname=", "subtype=", "remount", "-f", "-d", "-s", "-h", "-V"),
    ):
        assert name in out, name


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "one mount point is needed"),
        (["-o", "lowerdir=/"], "one mount point is needed"),
        (["a", "b", "c", "-o", "lowerdir=/"], "one mount point is needed"),
        (["/mnt"], "the option lowerdir= is missing"),
        (["/mnt", "-o"], "-o: something must follow"),
        (["/mnt", "-t"], "-t: something must follow"),
        (["-x", "/mnt"], "-x: no such option"),
        (["-fx", "/mnt"], "-x: no such option"),
        (["--bogus", "/mnt"], "--bogus: no such option"),
        (["--lowerdir=/", "/mnt"], "--lowerdir=/: no such option"),
        (["-o", "bogus", "/mnt"], "bogus: unknown option"),
        (["-o", "lowerdir=/,bo\x1bgus", "/mnt"], "bo\\x1bgus: unknown option"),
    ],
)
def test_wrong_usage(invoke: Invoke, words: list[str], complaint: str) -> None:
    assert invoke.refused(*words) == complaint


# Each ends at the fake mount, or at what is wrong with its options.
READINGS = [
    ["src", "/mnt", "-o", "OPTIONS"],
    ["-o", "OPTIONS", "src", "/mnt"],
    ["src", "-o", "OPTIONS", "/mnt"],
    ["-oOPTIONS", "/mnt"],
    ["/mnt", "-foOPTIONS"],
    ["/mnt", "-nvo", "OPTIONS"],
    ["src", "/mnt", "-n", "-v", "-s", "-o", "OPTIONS"],
    ["src", "/mnt", "-o", "OPTIONS", "-t", "fuse.pyoverlayfs"],
    ["src", "/mnt", "-tfuse.pyoverlayfs", "-N", "/proc/1/ns/mnt", "-o", "OPTIONS"],
    ["-o", "OPTIONS", "--", "-src", "-mnt"],
    ["-o", "OPTIONS", "-", "/mnt"],
    ["-o", "nodev", "-o", "OPTIONS", "-o", "ro", "/mnt"],
]


@pytest.mark.parametrize("words", READINGS, ids=" ".join)
def test_options_come_anywhere(invoke: Invoke, words: list[str]) -> None:
    """And mount(8) may add its own: `-f` is its fake mount."""
    for options, sloppy in (("lowerdir=/nowhere,x-any=1", False), ("lowerdir=/nowhere,any", True)):
        line = [word.replace("OPTIONS", options) for word in words]
        more = ["-s"] if sloppy else []
        assert invoke(*more, "-f", *line, name=HELPER) == (0, "", "")
    line = [word.replace("OPTIONS", "lowerdir=/l,sync=x") for word in words]
    assert invoke.refused(*line, name=HELPER).startswith("sync=x: ")


def test_a_fake_mount_still_looks_at_the_options(invoke: Invoke) -> None:
    assert invoke.refused("-f", "/mnt", "-o", "lowerdir=/,bogus", name=HELPER).startswith("bogus")


# -- directories ---------------------------------------------------------------------------


def test_what_is_no_directory_is_refused_by_its_path(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = Stack.make(tmp_path / "stack")
    monkeypatch.chdir(stack.base)
    write(stack.base / "file")
    (stack.base / "loop").symlink_to("loop")
    long = "x" * 300
    wrong = {
        "nowhere": "nowhere: No such file or directory",
        "file": "file: not a directory",
        "file/below": "file/below: Not a directory",
        "loop": "loop: Too many levels of symbolic links",
        long: f"{long}: File name too long",
    }
    for name, complaint in wrong.items():
        for options in (
            f"lowerdir=lower1:{name}",
            f"lowerdir+={name}",
            f"lowerdir=lower1,workdir=work,upperdir={name}",
        ):
            assert invoke.refused("-o", options, "mnt", code=32) == complaint
        assert invoke.refused("-o", "lowerdir=lower1", name, code=32) == complaint
        if name != "nowhere":  # that would be made
            options = f"lowerdir=lower1,upperdir=upper,workdir={name}"
            said = invoke.refused("-o", options, "mnt", code=32)
            why = "File exists" if name in ("file", "loop") else complaint.partition(": ")[2]
            assert said == f"{stack.base}/{name}: {why}"


@pytest.mark.parametrize(
    ("options", "mountpoint"),
    [
        ("lowerdir=lower1,upperdir=lower1,workdir=work", "mnt"),
        ("lowerdir=lower1,upperdir=lower1/in,workdir=work", "mnt"),
        ("lowerdir=upper/in,upperdir=upper,workdir=work", "mnt"),
        ("lowerdir=link,upperdir=lower1,workdir=work", "mnt"),
        ("lowerdir=lower1,upperdir=upper,workdir=upper", "mnt"),
        ("lowerdir=lower1,upperdir=upper,workdir=upper/in", "mnt"),
        ("lowerdir=lower1,upperdir=upper,workdir=link", "mnt"),
        ("lowerdir=lower1,upperdir=upper,workdir=link/new", "mnt"),
        ("lowerdir=lower1,upperdir=upper,workdir=work/../upper/in", "mnt"),
        ("lowerdir=lower1,upperdir=work/in,workdir=work", "mnt"),
        ("lowerdir=lower1,upperdir=upper,workdir=work", "lower1"),
        ("lowerdir=lower1,upperdir=upper,workdir=work", "upper/in"),
        ("lowerdir=lower1,upperdir=upper,workdir=work", "work"),
        ("lowerdir=lower1", "link"),
    ],
)
def test_directories_that_overlap_are_refused(
    invoke: Invoke,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    mountpoint: str,
) -> None:
    stack = Stack.make(tmp_path / "stack")
    for above in (stack.lower, stack.upper, stack.work):
        (above / "in").mkdir()
    (stack.base / "link").symlink_to("upper" if "workdir=link" in options else "lower1")
    monkeypatch.chdir(stack.base)
    said = invoke.refused("-o", options, mountpoint, code=32)
    assert "overlaps" in said or "lies in" in said
    assert sorted(path.name for path in stack.work.iterdir()) == ["in"]
