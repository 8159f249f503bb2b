"""Measures the time from an image file to the first `ls`, beside umoci and podman.

Each way is run in turn, round after round, on the same machine and the same files; the
median of the rounds is shown. The image files are in the page cache, and what an earlier
measurement has written is synced to disk before the next one begins. Nothing is deleted
before the last round has ended, since a file system that frees space (and tells the disk so)
is slow for many seconds afterwards: a round takes about seven times the size of the image.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.lib.bench import report
from scripts.lib.bench.images import Image, images
from tests.support.images import run

COLD, WARM = "cold", "layers in the store"


@dataclass(frozen=True, slots=True)
class Way:
    """One way from an image to the first `ls`: what is timed, and what is not."""

    tool: str
    form: str
    state: str
    timed: Callable[[], object]
    after: Callable[[], object]


class Bench:
    """One round: the tools, with storage of their own below *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.storages: list[Path] = []

    def ways(self, image: Image) -> Iterator[Way]:
        """What is compared, in the order of each round."""
        yield from self._pyoverlay("OCI, gzip", image.oci_archive, self.folder / "store-oci")
        yield from self._podman("OCI, gzip", image.oci_archive, self.folder / "podman-oci")
        yield from self._pyoverlay(
            "docker-archive", image.docker_archive, self.folder / "store-docker"
        )
        yield from self._podman(
            "docker-archive", image.docker_archive, self.folder / "podman-docker"
        )
        yield Way(
            *("umoci unpack", "OCI, gzip", COLD),
            timed=lambda: self._umoci(image.layout, self.folder / "bundle"),
            after=lambda: None,
        )

    def _pyoverlay(self, form: str, file: Path, store: Path) -> Iterator[Way]:
        def mount() -> None:
            run("pyoverlay", "mount", "--root", store, file, self.root)
            self._ls(self.root)

        def unmount() -> None:
            run("pyoverlay", "umount", "--root", store, self.root)

        yield Way(*("pyoverlay mount", form, COLD), timed=mount, after=unmount)
        yield Way(*("pyoverlay mount", form, WARM), timed=mount, after=unmount)

    def _podman(self, form: str, file: Path, storage: Path) -> Iterator[Way]:
        def podman(*arguments: str | Path) -> str:
            return run(
                *("podman", f"--root={storage}/root", f"--runroot={storage}/run"),
                *("--storage-driver=overlay", *arguments),
            )

        def mount() -> None:
            self._ls(Path(podman("image", "mount", "image:latest").strip()))

        def load_and_mount() -> None:
            podman("load", "--quiet", "--input", file)
            mount()

        def unmount() -> None:
            podman("image", "unmount", "--all")

        self.storages.append(storage)
        yield Way(*("podman load + image mount", form, COLD), timed=load_and_mount, after=unmount)
        yield Way(*("podman image mount", form, WARM), timed=mount, after=unmount)

    def _umoci(self, layout: Path, bundle: Path) -> None:
        run("umoci", "unpack", "--image", f"{layout}:image", bundle)
        self._ls(bundle / "rootfs")

    def _ls(self, folder: Path) -> None:
        assert run("ls", folder).split(), f"{folder} is empty"

    def forget(self) -> None:
        """Removes all of the round."""
        for storage in self.storages:
            # podman leaves a mount of the directory on itself.
            subprocess.run(["umount", storage / "root/overlay"], check=False, capture_output=True)
        shutil.rmtree(self.folder)


def measure(way: Way) -> float:
    """Seconds for what is timed."""
    os.sync()
    started = time.perf_counter()
    way.timed()
    seconds = time.perf_counter() - started
    way.after()
    return seconds


def machine(work: Path) -> dict[str, Any]:
    """What the numbers were measured on, and with."""
    return report.machine(work) | {
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


def main(arguments: Sequence[str]) -> None:
    """Runs all, prints Markdown, and writes it and JSON into the work directory."""
    parser = argparse.ArgumentParser(prog="scripts/bench images", description=__doc__)
    parser.add_argument(
        *("--work", "-w"),
        type=Path,
        default=Path("/var/tmp/pyoverlay-bench"),
        help="where images (made once), storage and results lie [%(default)s]",
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often [%(default)s]")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        sys.exit("scripts/bench images: podman's own overlay and owners need root: use sudo")
    work = options.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    results = []
    for image in images(work):
        for file in (image.oci_archive, image.docker_archive):
            subprocess.run(["cat", file], stdout=subprocess.DEVNULL, check=True)
        shutil.rmtree(work / "rounds", ignore_errors=True)
        benches = [Bench(work / "rounds" / str(number)) for number in range(options.rounds)]
        rounds = [list(bench.ways(image)) for bench in benches]
        seconds: list[list[float]] = []
        for number, ways in enumerate(rounds, start=1):
            seconds.append([])
            for way in ways:
                seconds[-1].append(measure(way))
                print(
                    f"{image.name} {number}/{options.rounds}: {way.tool}, {way.form}, "
                    f"{way.state}: {seconds[-1][-1]:.2f} s",
                    file=sys.stderr,
                )
        for bench in benches:
            bench.forget()
        for way, found in zip(rounds[0], zip(*seconds, strict=True), strict=True):
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
