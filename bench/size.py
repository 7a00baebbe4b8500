"""What the base install weighs: a fresh environment with Fairlead less one without, in MB (10^6).

Counted are the bytes of all files, compiled ones too, as pip leaves them. Needs pip's cache or a
package index.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 8


def megabytes(folder: Path) -> float:
    """Return the size of all files below, links not followed, in MB."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fairlead-size-") as place:
        folder = Path(place) / "venv"
        venv.create(folder, with_pip=True)
        empty = megabytes(folder)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--disable-pip-version-check", str(ROOT)], check=True)
        whole = megabytes(folder)
        packages = {
            path.name: round(megabytes(path), 1)
            for path in next(folder.glob("lib/python3*/site-packages")).iterdir()
            if path.is_dir() and path.suffix != ".dist-info"
            if path.name not in ("pip", "setuptools", "pkg_resources")
        }
    largest = dict(sorted(packages.items(), key=lambda item: -item[1])[:LARGEST])
    line = {
        "name": "base install",
        "unit": "MB",
        "value": round(whole - empty, 1),
        "target": 100,
        "better": "less",
        "python": sys.version.split()[0],
        "largest": largest,
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
