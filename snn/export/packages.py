"""The packages that exports need beyond those of the project."""

from __future__ import annotations

import importlib.util


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def require(*packages: str) -> None:
    """Raises RuntimeError, with what to install, unless these packages are there."""
    if missing := [package for package in packages if not is_installed(package)]:
        raise RuntimeError(
            f"This export needs {' and '.join(missing)}: pip install {' '.join(missing)}, or install this "
            "project with its extra `export`."
        )
