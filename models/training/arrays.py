"""Named arrays in one file, `.npz` as NumPy reads it. Nothing in it is ever unpickled."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write the file aside and rename it: it is there whole or not at all, killed or not."""
    aside = path.with_name(f"{path.name}.partial")
    with aside.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def read_arrays(path: Path) -> Arrays:
    """Read what `write_arrays` wrote. Raises `ValueError` or `OSError` for another file."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (AttributeError, EOFError, zipfile.BadZipFile) as exc:
        # A file of one array alone has neither names nor an end to the block.
        raise ValueError(f"{path.name} is no file of named arrays: {exc}") from exc
