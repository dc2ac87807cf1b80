"""Generate the client of gobgpd from the protos that Debian ships beside the daemon.

`make setup` calls this each time; it does nothing unless a proto, the generator's version or this file has changed.
The result in `routing/engines/gobgp_api/` is not kept in the repository (only the package's `__init__.py` is), so the
client always speaks the API of the gobgpd that is installed. protoc writes imports as if its output lay at top level:
they are made relative, so that the generated modules are importable as a package and leave no names beside ours.
"""

from __future__ import annotations

import hashlib
import re
import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

PROTOS = Path("/usr/share/gocode/src/github.com/osrg/gobgp/api")
NAMES = ("attribute.proto", "capability.proto", "gobgp.proto")
TARGET = Path(__file__).resolve().parent.parent / "routing" / "engines" / "gobgp_api"
STAMP = TARGET / ".generated-from"
TOP_LEVEL_IMPORT = re.compile(r"^import (\w+_pb2)\b", re.MULTILINE)


def digest() -> str:
    """Say in one line what the output depends on."""
    total = hashlib.sha256(f"grpcio-tools {version('grpcio-tools')}\n".encode())
    for source in (Path(__file__), *(PROTOS / name for name in NAMES)):
        total.update(source.read_bytes())
    return total.hexdigest()


def relative_imports(text: str) -> str:
    """Make `import attribute_pb2 ...` mean the neighbour in the package."""
    return TOP_LEVEL_IMPORT.sub(r"from . import \1", text)


def run_protoc() -> int:
    """Write the messages, their type stubs and the service client; the imports are still top-level ones."""
    from grpc_tools import protoc  # noqa: PLC0415 - slow to import, and needed only when something has changed

    well_known = files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={TARGET}" for kind in ("python", "pyi", "grpc_python")]
    status: int = protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", *outputs, *NAMES])
    return status


def main() -> int:
    """Generate when something has changed; the stamp is written last, so that an interrupted run is redone."""
    absent = [name for name in NAMES if not (PROTOS / name).is_file()]
    if absent:
        sys.stderr.write(f"stubs: {PROTOS} lacks {', '.join(absent)}: install golang-github-osrg-gobgp-dev\n")
        return 1
    wanted = digest()
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return 0
    STAMP.unlink(missing_ok=True)
    TARGET.mkdir(parents=True, exist_ok=True)
    if status := run_protoc():
        return status
    for generated in sorted(TARGET.glob("*_pb2*.py*")):
        generated.write_text(relative_imports(generated.read_text()))
    STAMP.write_text(wanted)
    sys.stdout.write(f"stubs: generated {TARGET.name} from the protos of the installed gobgpd\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
