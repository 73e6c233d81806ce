"""Write knative/*.yaml from the functions' chart with its default values; ``--check`` says whether they are right.

The chart is the source; these files are for who installs without Helm, one Knative Service a file as ``kn`` wants them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from helm_python import Chart

ROOT: Final = Path(__file__).resolve().parent.parent
NAMESPACE: Final = "default"
HEAD: Final = "# Rendered from charts/log-processing-api by `make manifests`: change it there.\n"


def rendered() -> dict[str, str]:
    """Return the files by name: everything that the chart installs, but not its test."""
    templates = Chart.load(str(ROOT / "charts" / "log-processing-api")).render(name="flyertime", namespace=NAMESPACE)
    return {
        Path(name).name: HEAD + text.strip() + "\n"
        for name, text in sorted(templates.items())
        if name.endswith(".yaml") and "/tests/" not in name and text.strip()
    }


def main() -> int:
    """Write the files, or check them."""
    folder = ROOT / "knative"
    wanted = rendered()
    held = {path.name: path.read_text() for path in folder.glob("*.yaml") if path.name != "kustomization.yaml"}
    if "--check" in sys.argv:
        return int(held != wanted)
    for name in held.keys() - wanted.keys():
        (folder / name).unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
