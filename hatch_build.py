"""Build hook: the C library behind `streamer.adapters.forecast_text`, where there is a C compiler.

Without one, or on another system, the package is pure Python and only slower.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "streamer/adapters/forecast_text.c"
LIBRARY = "streamer/adapters/libforecast_text.so"
FLAGS = ("-O3", "-fno-math-errno", "-ffp-contract=off", "-shared", "-fPIC")  # no contraction: Python has none either


class NativeLibrary(BuildHookInterface):  # type: ignore[type-arg]
    """Compiles the library into the source tree, and tags the wheel that holds it with its platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, if that is possible here."""
        if self.target_name != "wheel" or not compiled(root := Path(self.root), root / LIBRARY):
            return
        build_data["artifacts"].append(LIBRARY)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"


def compiled(root: Path, library: Path) -> bool:
    """Whether the library is there now, made from the present source."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or not sys.platform.startswith("linux"):
        return False
    partial = library.with_suffix(f".{os.getpid()}")
    command = [compiler, *FLAGS, str(root / SOURCE), "-o", str(partial), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{library.name} was not built, so forecasts are written by Python: {done.stderr}", file=sys.stderr)
        partial.unlink(missing_ok=True)
        return False
    partial.replace(library)
    return True
