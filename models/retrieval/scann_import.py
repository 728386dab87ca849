"""ScaNN's NumPy bindings without TensorFlow."""

from __future__ import annotations

import sys
from typing import Any

_TENSORFLOW = "tensorflow"


def scann_bindings() -> Any:
    """Return the module `scann.scann_ops.py.scann_ops_pybind`.

    `import scann` imports TensorFlow (8 s, 500 MB) when it is installed, for ops that are not used
    here, and goes on without when that raises `ModuleNotFoundError`. An entry of None in
    `sys.modules` makes it raise just that. A TensorFlow that is loaded already is left as it is.
    """
    hidden = _TENSORFLOW not in sys.modules
    if hidden:
        sys.modules[_TENSORFLOW] = None  # type: ignore[assignment]
    try:
        from scann.scann_ops.py import scann_ops_pybind
    finally:
        if hidden:
            del sys.modules[_TENSORFLOW]
    return scann_ops_pybind
