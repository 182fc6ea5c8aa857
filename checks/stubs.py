"""Check that the committed protobuf stubs are what the compiler makes of the .proto files now."""

import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def generate(proto: Path, out: Path) -> None:
    """Compile `proto` (relative to the repository) into `out`.

    Raises:
        SystemExit: The compiler refused the file; it has already said why.
    """
    # The well-known types ship inside grpc_tools; `python -m grpc_tools.protoc` adds them too.
    well_known = resources.files("grpc_tools") / "_proto"
    flags = [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "pyi")]
    status = protoc.main(["protoc", f"-I{ROOT}", f"-I{well_known}", *flags, str(ROOT / proto)])
    if status != 0:
        sys.exit(status)


def stale(proto: Path) -> list[str]:
    """Return a finding for each stub of `proto` that is absent or differs."""
    findings = []
    with tempfile.TemporaryDirectory() as out:
        generate(proto, Path(out))
        for fresh in sorted(Path(out).rglob("*.py*")):
            name = fresh.relative_to(out)
            committed = ROOT / name
            if not committed.is_file():
                findings.append(f"{name}: absent, run `make protos`")
            elif committed.read_bytes() != fresh.read_bytes():
                findings.append(f"{name}: not what {proto} compiles to, run `make protos`")
    return findings


def main() -> int:
    """Check every .proto file of the contract."""
    protos = sorted(path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*.proto"))
    findings = [finding for proto in protos for finding in stale(proto)]
    print("\n".join(findings) or f"Stubs of {len(protos)} contract file(s) are current.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
