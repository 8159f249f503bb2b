"""The commands that look into images, on an image in a file and on the same in the store."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.archives import Made, from_1_10, write_tar
from tests.support.command import PyOverlay
from tests.support.layers import device, file, folder, link, symlink, tar

LAYERS = (
    tar(
        folder("etc", 0o755), file("etc/passwd", b"root:x:0:0::/:\nann:x:7:7::/:\n", mode=0o644),
        file("etc/group", b"root:x:0:\nstaff:x:9:\n"), file("etc/old", b"old"),
        folder("bin"), file("bin/tool", b"x" * 5000, mode=0o4755, uid=7, gid=9,
                            pax={"SCHILY.xattr.user.note": "seen"}),
        symlink("sh", "bin/tool"), symlink("broken", "/no/where"), link("bin/same", "bin/tool"),
        device("null", tarfile.CHRTYPE, 1, 3, mode=0o666),
    ),
    tar(file("etc/.wh.old"), file("etc/new", b"new\n", mtime=1_700_000_000.5),
        file("etc/red\x1b[31m\n", b"")),
)  # fmt: skip
HISTORY = {"history": [{"created_by": "ADD base"}, {"created_by": "RUN change"}]}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image as `docker save` writes it."""
    path = tmp_path_factory.mktemp("looking") / "image.tar"
    return write_tar(path, from_1_10([(Made(LAYERS, HISTORY), ["app:1"])]))


@pytest.fixture(params=["file", "store"])
def image(
    request: pytest.FixtureRequest, archive: Path, pyoverlay: PyOverlay, tmp_path: Path
) -> str:
    """The image as a word on the command line."""
    if request.param == "file":
        return str(archive)
    request.getfixturevalue("needs_fuse")
    with pyoverlay.mounted(archive, tmp_path / "mnt", "--read-only"):
        pass
    return "app:1"


def test_ls(image: str, pyoverlay: PyOverlay) -> None:
    assert pyoverlay.ok("ls", image).split() == ["bin", "broken", "etc", "null", "sh"]
    assert pyoverlay.ok("ls", f"{image}:/etc").split("\n")[:3] == ["group", "new", "passwd"]
    assert pyoverlay.ok("ls", image, "bin", "/bin/tool") == "/bin:\nsame\ntool\nbin/tool\n"
    recursive = pyoverlay.ok("ls", "-R", image)
    assert recursive.startswith("/:\nbin\nbroken\netc\nnull\nsh\n\n/bin:\nsame\ntool\n\n/etc:\n")


def test_ls_long(image: str, pyoverlay: PyOverlay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert pyoverlay.ok("ls", "-l", image).splitlines() == [
        "drwxr-xr-x 1 root root    0 2020-09-13 12:26 bin",
        "lrwxrwxrwx 1 root root    9 2020-09-13 12:26 broken -> /no/where",
        "drwxr-xr-x 1 root root    0 2020-09-13 12:26 etc",
        "crw-rw-rw- 1 root root 1, 3 2020-09-13 12:26 null",
        "lrwxrwxrwx 1 root root    8 2020-09-13 12:26 sh -> bin/tool",
    ]
    line = "-rwsr-xr-x 2 ann staff 5000 2020-09-13 12:26 bin/tool\n"
    assert pyoverlay.ok("ls", "-l", f"{image}:/bin/tool") == line
    assert "2 7 9 4.9K" in pyoverlay.ok("ls", "-lnh", f"{image}:/bin/tool")
    # A link by itself, and what it leads to with a slash behind it.
    assert pyoverlay.ok("ls", "-l", f"{image}:/sh").endswith("sh -> bin/tool\n")
    assert pyoverlay.ok("ls", "-ld", f"{image}:/bin").startswith("drwxr-xr-x")


def test_ls_json(image: str, pyoverlay: PyOverlay) -> None:
    found = {one["path"]: one for one in pyoverlay.json("ls", "-R", image)}
    assert found["/bin/tool"] == {
        "path": "/bin/tool", "kind": "file", "mode": "4755", "uid": 7, "gid": 9, "user": "ann",
        "group": "staff", "size": 5000, "mtime": "2020-09-13T12:26:40.000000000Z", "links": 2,
        "layer": 1,
    }  # fmt: skip
    assert found["/etc/new"]["mtime"] == "2023-11-14T22:13:20.500000000Z"
    assert (found["/etc/new"]["layer"], found["/sh"]["target"]) == (2, "bin/tool")
    assert found["/null"]["device"] == [1, 3]


def test_names_are_safe_on_a_terminal_and_exact_in_a_pipe(archive: Path) -> None:
    command = [sys.executable, "-m", "overlayfs", "ls", f"{archive}:/etc"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    assert b"red\x1b[31m\n\n" in subprocess.run(command, env=env, capture_output=True).stdout
    ours, theirs = os.openpty()
    try:
        subprocess.run(command, env=env, stdout=theirs, check=True)
        shown = os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"\x1b" not in shown
    assert rb"red\x1b[31m\x0a" in shown


def test_cat(image: str, pyoverlay: PyOverlay) -> None:
    assert pyoverlay.ok("cat", f"{image}:/etc/new") == "new\n"
    assert pyoverlay.ok("cat", image, "etc/new", "/sh") == "new\n" + "x" * 5000
    assert pyoverlay.ok("cat", "--verify", f"{image}:/etc/new") == "new\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cat", "/nowhere"], ":/nowhere: no such file or directory"),
        (["cat", "/etc/old"], ":/etc/old: no such file or directory"),
        (["cat", "/etc"], ":/etc: is a directory"),
        (["cat", "/null"], ":/null: not a regular file"),
        (["cat", "/broken"], ":/broken: a symbolic link to /no/where, which is not there"),
        (["ls", "/etc/new/x"], ":/etc/new/x: not a directory"),
        (["stat", "/nowhere"], ":/nowhere: no such file or directory"),
        (["tree", "/nowhere"], ":/nowhere: no such file or directory"),
        (["find", "--user", "bob", "/"], "bob: no such user in the image"),
        (["find", "--newer", "yesterday", "/"], "'yesterday' is no time"),
        (["find", "--newer", "/nowhere", "/"], ":/nowhere: no such file or directory"),
        (["find", "--size", "big", "/"], "'big' is no size"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    words: list[str], says: str, archive: Path, pyoverlay: PyOverlay
) -> None:
    command, *options, path = words
    done = pyoverlay(command, *options, f"{archive}:{path}")
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr.splitlines()[0]
    assert "Traceback" not in done.stderr


def test_no_store_is_made_for_a_file(archive: Path, pyoverlay: PyOverlay) -> None:
    pyoverlay.ok("ls", archive)
    assert not pyoverlay.store.exists()


def test_stat(image: str, pyoverlay: PyOverlay) -> None:
    (found,) = pyoverlay.json("stat", f"{image}:/bin/tool")
    assert (found["layer"], found["created_by"]) == (1, "ADD base")
    assert found["diff_id"].startswith("sha256:")
    assert found["xattrs"] == {"user.note": "c2Vlbg=="}
    text = pyoverlay.ok("stat", image, "/etc/new", "/sh")
    assert "Made by: RUN change\n" in text
    assert "Path:    /sh -> bin/tool\n" in text
    text = pyoverlay.ok("stat", "-L", image, "/sh")
    assert "Path:    /bin/tool\n" in text
    assert 'Xattr:   user.note="seen"\n' in text
    assert "Owner:   ann (7), group staff (9)\n" in text


def test_find(image: str, pyoverlay: PyOverlay) -> None:
    def find(*words: str) -> list[str]:
        return pyoverlay.ok("find", image, *words).split("\n")[:-1]

    def beneath(path: str, *words: str) -> list[str]:
        return pyoverlay.ok("find", f"{image}:{path}", *words).split()

    assert find("--suid") == ["/bin/same", "/bin/tool"] == find("-perm", "-4000")
    assert find("-type", "l") == ["/broken", "/sh"]
    assert find("-newer", "/etc/passwd", "-type", "f") == ["/etc/new"]
    assert find("-newer", "2023-11-14") == ["/etc/new"]
    assert find("-size", "+4k", "-user", "ann", "-name", "t*") == ["/bin/tool"]
    assert find("--layer", "2", "-name", "n*") == ["/etc/new"]
    assert find("-maxdepth", "0") == ["/"]
    assert beneath("/etc", "-maxdepth", "1", "-name", "p*") == ["/etc/passwd"]
    assert beneath("/sh") == ["/sh"]
    assert pyoverlay.ok("find", image, "-0", "-name", "red*") == "/etc/red\x1b[31m\n\0"
    assert [one["path"] for one in pyoverlay.json("find", image, "--empty")] == [
        "/etc/red\x1b[31m\n"
    ]
    assert "ann" in pyoverlay.ok("find", image, "-l", "--group", "staff")


def test_tree(image: str, pyoverlay: PyOverlay) -> None:
    assert pyoverlay.ok("tree", "-L", "1", image) == (
        "/\n├── bin/\n├── broken -> /no/where\n├── etc/\n├── null\n└── sh -> bin/tool\n"
    )
    assert pyoverlay.ok("tree", f"{image}:/bin") == "/bin\n├── same\n└── tool\n"
    lines = pyoverlay.ok("tree", "--du", "-d", image).splitlines()
    # The two names are one file.
    assert lines[1] == "  4.9K  ├── bin/"
    (top,) = pyoverlay.json("tree", "--du", image)
    assert [child["name"] for child in top["children"]][:2] == ["bin", "etc"]
    assert top["size"] == sum(child["size"] for child in top["children"])


def test_cp(image: str, pyoverlay: PyOverlay, tmp_path: Path) -> None:
    pyoverlay.ok("cp", f"{image}:/sh", tmp_path / "tool")
    found = tmp_path / "tool"
    assert (found.read_bytes(), found.stat().st_mode & 0o7777) == (b"x" * 5000, 0o755)
    assert found.stat().st_mtime == 1_600_000_000
    (tmp_path / "folder").mkdir()
    pyoverlay.ok("cp", image, "etc/new", tmp_path / "folder")
    pyoverlay.ok("cp", "-P", f"{image}:/sh", tmp_path / "folder")
    pyoverlay.ok("cp", "-r", f"{image}:/bin", tmp_path / "folder")
    pyoverlay.ok("cp", "-r", f"{image}:/bin", tmp_path / "tools")
    assert (tmp_path / "folder/new").read_text() == "new\n"
    assert (tmp_path / "folder/sh").readlink() == Path("bin/tool")
    for at in ("folder/bin", "tools"):
        assert (tmp_path / at / "same").samefile(tmp_path / at / "tool")


def test_cp_refuses(archive: Path, pyoverlay: PyOverlay, tmp_path: Path) -> None:
    done = pyoverlay("cp", f"{archive}:/etc", tmp_path / "x")
    assert done.returncode == 1
    assert ":/etc: is a directory\n  hint: -r copies directories" in done.stderr
    done = pyoverlay("cp", f"{archive}:/etc/new", tmp_path / "no/where")
    assert "no: No such file or directory" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_cp_to_stdout(image: str, pyoverlay: PyOverlay) -> None:
    data = subprocess.run(
        [sys.executable, "-m", "overlayfs", "cp", "-r", f"{image}:/bin", "-"],
        env=os.environ
        | {"PYOVERLAY_ROOT": str(pyoverlay.store), "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as made:
        members = {member.name: member for member in made}
    assert [*members] == ["bin", "bin/same", "bin/tool"]
    assert (members["bin/tool"].linkname, members["bin/same"].mode) == ("bin/same", 0o4755)
    assert members["bin/same"].pax_headers["SCHILY.xattr.user.note"] == "seen"


def test_extract(image: str, pyoverlay: PyOverlay, tmp_path: Path, needs_root: None) -> None:
    out = tmp_path / "out"
    pyoverlay.ok("extract", image, out)
    assert (out / "bin/tool").stat().st_uid == 7
    assert (out / "null").is_char_device()
    done = pyoverlay("extract", f"{image}:/etc", out)
    assert done.returncode == 1
    assert "not empty" in done.stderr
    pyoverlay.ok("extract", "--merge", f"{image}:/etc", out)
    assert (out / "new").read_text() == "new\n"
    done = pyoverlay("extract", "--no-owner", image, "/", tmp_path / "own")
    assert "left out: 1 devices" in done.stderr
    assert (tmp_path / "own/bin/tool").stat().st_uid == 0
    done = pyoverlay("extract", f"{image}:/etc/new", tmp_path / "file")
    assert ":/etc/new: not a directory\n  hint: `pyoverlay cp` copies files" in done.stderr


def test_an_interrupted_extract_says_so(tmp_path: Path) -> None:
    layer = tar(*(file(f"{number}", b"x" * 4096) for number in range(20_000)))
    archive = write_tar(tmp_path / "image.tar", from_1_10([(Made((layer,)), [])]))
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "overlayfs", "extract", str(archive), str(out)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        while not (out.is_dir() and any(out.iterdir())):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        _, said = child.communicate()
    assert child.returncode == 8
    assert said.split("\n") == [
        f"pyoverlay: {out}: not complete",
        "",
        "pyoverlay: interrupted",
        "",
    ]


def test_one_image_of_several_and_a_platform(pyoverlay: PyOverlay, tmp_path: Path) -> None:
    made = [Made((tar(file(name, name.encode())),)) for name in ("one", "two")]
    archive = write_tar(
        tmp_path / "images.tar", from_1_10([(made[0], ["a:1"]), (made[1], ["b:2"])])
    )
    assert pyoverlay.ok("ls", f"{archive}:b:2:/") == "two\n"
    assert pyoverlay.ok("ls", f"{archive}@0") == "one\n"
    assert "holds several images" in pyoverlay("ls", archive).stderr
    done = pyoverlay("ls", "--platform", "linux/s390x", f"{archive}@0")
    assert "no image for linux/s390x" in done.stderr


def test_help_has_examples(pyoverlay: PyOverlay) -> None:
    for command in ("ls", "cat", "stat", "find", "cp", "extract", "tree"):
        text = pyoverlay.ok(command, "--help")
        assert f"  pyoverlay {command} " in text, command


def test_json_is_valid_for_any_name(archive: Path, pyoverlay: PyOverlay) -> None:
    found = json.loads(pyoverlay.ok("ls", "--json", f"{archive}:/etc"))
    assert "/etc/red\x1b[31m\n" in [one["path"] for one in found]
