"""Measures the time from an image file to the first `ls`, beside umoci and podman.

Each way is run in turn, round after round, on the same machine and the same files; the
median of the rounds is shown. The image files are in the page cache, and what an earlier
measurement has written is synced to disk before the next one begins.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.lib.bench_images import Image, images
from tests.support.images import run

COLD, WARM = "cold", "layers in the store"


@dataclass(frozen=True, slots=True)
class Way:
    """One way from an image to the first `ls`: what is timed, and what is not."""

    tool: str
    form: str
    state: str
    before: Callable[[], object]
    timed: Callable[[], object]
    after: Callable[[], object]


class Bench:
    """The tools, their storage below one directory."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.root = work / "root"
        self.root.mkdir(parents=True, exist_ok=True)
        self.store = work / "store"
        self.bundle = work / "bundle"
        self.storage = work / "podman"

    def ways(self, image: Image) -> Iterator[Way]:
        """What is compared, in the order of each round."""
        forms = {"OCI, gzip": image.oci_archive, "docker-archive": image.docker_archive}
        for form, file in forms.items():
            yield from self._pyoverlay(form, file)
            yield from self._podman(form, file)
        yield Way(
            *("umoci unpack", "OCI, gzip", COLD),
            before=self._forget_bundle,
            timed=lambda: self._umoci(image.layout),
            after=self._forget_bundle,
        )

    def _pyoverlay(self, form: str, file: Path) -> Iterator[Way]:
        def mount(source: str | Path) -> None:
            self._run("pyoverlay", "mount", "--root", self.store, source, self.root)
            self._ls(self.root)

        def unmount() -> None:
            self._run("pyoverlay", "umount", "--root", self.store, self.root)

        yield Way(
            *("pyoverlay mount", form, COLD),
            before=self._forget_store,
            timed=lambda: mount(file),
            after=unmount,
        )
        yield Way(
            *("pyoverlay mount", form, WARM),
            before=lambda: None,
            timed=lambda: mount(file),
            after=unmount,
        )

    def _podman(self, form: str, file: Path) -> Iterator[Way]:
        def mount() -> None:
            merged = self._podman_run("image", "mount", "image:latest").strip()
            self._ls(Path(merged))

        def load_and_mount() -> None:
            self._podman_run("load", "--quiet", "--input", str(file))
            mount()

        def unmount() -> None:
            self._podman_run("image", "unmount", "--all")

        yield Way(
            *("podman load + image mount", form, COLD),
            before=self._forget_podman,
            timed=load_and_mount,
            after=unmount,
        )
        yield Way(
            *("podman image mount", form, WARM), before=lambda: None, timed=mount, after=unmount
        )

    def _umoci(self, layout: Path) -> None:
        self._run("umoci", "unpack", "--image", f"{layout}:image", self.bundle)
        self._ls(self.bundle / "rootfs")

    def _podman_run(self, *arguments: str) -> str:
        return run(
            *("podman", f"--root={self.storage}/root", f"--runroot={self.storage}/run"),
            *("--storage-driver=overlay", *arguments),
        )

    def _ls(self, folder: Path) -> None:
        assert run("ls", folder).split(), f"{folder} is empty"

    def _run(self, *command: str | Path) -> None:
        run(*command)

    def _forget_store(self) -> None:
        shutil.rmtree(self.store, ignore_errors=True)

    def _forget_bundle(self) -> None:
        shutil.rmtree(self.bundle, ignore_errors=True)

    def _forget_podman(self) -> None:
        if self.storage.exists():
            self._podman_run("rmi", "--all", "--force")
            overlay = self.storage / "root/overlay"
            subprocess.run(["umount", overlay], check=False, capture_output=True)
            shutil.rmtree(self.storage)

    def forget(self) -> None:
        """Removes all but the images."""
        self._forget_store()
        self._forget_bundle()
        self._forget_podman()


def measure(way: Way) -> float:
    """Seconds for what is timed."""
    way.before()
    os.sync()
    started = time.perf_counter()
    way.timed()
    seconds = time.perf_counter() - started
    way.after()
    return seconds


def machine(work: Path) -> dict[str, Any]:
    """What the numbers were measured on."""
    release = platform.freedesktop_os_release()
    file_system = run("findmnt", "--noheadings", "--output=FSTYPE", "--target", work).strip()
    return {
        "system": release.get("PRETTY_NAME", "Linux"),
        "kernel": platform.release(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "file_system": file_system,
        "python": platform.python_version(),
        "tools": [run(tool, "--version").strip() for tool in ("pyoverlay", "umoci", "podman")],
        "page_cache": "image files cached; earlier writes synced before each measurement",
    }


def table(results: list[dict[str, Any]], about: dict[str, Any]) -> Iterator[str]:
    """The results in Markdown."""
    yield (
        f"{about['system']}, Linux {about['kernel']}, {about['processors']} processors, "
        f"{about['memory_gb']} GB, {about['file_system']}, Python {about['python']}; "
        f"{', '.join(about['tools'])}. Page cache: {about['page_cache']}."
    )
    for image in {result["image"]: result for result in results}.values():
        mine = [result for result in results if result["image"] == image["image"]]
        yield ""
        yield (
            f"**{image['image']} image**: {image['layers']} layers, {image['files']:,} entries, "
            f"{image['unpacked'] / 1e6:,.0f} MB unpacked; {image['rounds']} rounds."
        )
        yield ""
        yield "| image file | state | tool | median s | min-max s | pyoverlay takes |"
        yield "|---|---|---|---:|---:|---:|"
        for result in sorted(mine, key=lambda each: (each["form"], each["state"])):
            own = next(
                each["median"]
                for each in mine
                if (each["form"], each["state"]) == (result["form"], result["state"])
                and each["tool"].startswith("pyoverlay")
            )
            ratio = "" if own == result["median"] else f"{own / result['median']:.2f} of it"
            yield (
                f"| {result['form']} | {result['state']} | `{result['tool']}` "
                f"| {result['median']:.2f} | {min(result['seconds']):.2f}-"
                f"{max(result['seconds']):.2f} | {ratio} |"
            )


def main() -> None:
    """Runs all, prints Markdown, and writes it and JSON into the work directory."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        *("--work", "-w"),
        type=Path,
        default=Path("/var/tmp/pyoverlay-bench"),
        help="where images (made once), storage and results lie [%(default)s]",
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often [%(default)s]")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("scripts/bench: podman's native overlay and owners need root: run it with sudo")
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(work)
    results = []
    for image in images(work):
        ways = list(bench.ways(image))
        for file in (image.oci_archive, image.docker_archive):
            subprocess.run(["cat", file], stdout=subprocess.DEVNULL, check=True)
        seconds: list[list[float]] = [[] for _ in ways]
        for number in range(options.rounds):
            for way, found in zip(ways, seconds, strict=True):
                found.append(measure(way))
                print(
                    f"{image.name} {number + 1}/{options.rounds}: {way.tool}, {way.form}, "
                    f"{way.state}: {found[-1]:.2f} s",
                    file=sys.stderr,
                )
        bench.forget()
        for way, found in zip(ways, seconds, strict=True):
            results.append(
                {
                    "image": image.name,
                    "layers": image.layers,
                    "files": image.files,
                    "unpacked": image.unpacked,
                    "rounds": options.rounds,
                    "tool": way.tool,
                    "form": way.form,
                    "state": way.state,
                    "seconds": found,
                    "median": statistics.median(found),
                }
            )
    about = machine(work)
    text = "\n".join(table(results, about)) + "\n"
    (work / "bench.json").write_text(json.dumps({"machine": about, "results": results}, indent=1))
    (work / "bench.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
