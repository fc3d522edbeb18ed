"""Debian packages that building images takes."""

import os
import shutil
import subprocess
from typing import Final

_PROGRAMS: Final = {"binutils": "nm"}
"""Packages that are not called as their program is."""


def require(*packages: str) -> None:
    """Install what is missing of Debian's packages; ends the process where that cannot be done."""
    missing = [name for name in packages if shutil.which(_PROGRAMS.get(name, name)) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(f"Building images takes {', '.join(missing)}: install them, or run a Docker engine.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
    install = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends"]
    subprocess.run([*install, *missing], env=environment, stdout=subprocess.DEVNULL, check=True)
