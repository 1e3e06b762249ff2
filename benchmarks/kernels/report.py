"""Turn a pytest-benchmark JSON file into the table of README.md.

`python benchmarks/kernels/report.py results.json` writes Markdown to standard output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CONTENDERS = ("native", "numba", "plain", "numpy")


def table(results: dict[str, Any]) -> str:
    """Return one line per kernel and size: best times, then native's share of copy bandwidth."""
    lines = [
        "| kernel | size | native us | numba us | plain numba us | NumPy us "
        "| share of a copy of that size | share of a DRAM copy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[str, dict[str, Any]] = {}
    for entry in results["benchmarks"]:
        group = groups.setdefault(entry["group"], {})
        group[entry["params"]["contender"]] = entry["extra_info"]
    for name, group in groups.items():
        kernel, size = name.split()
        times = [f"{group[contender]['microseconds']:.1f}" for contender in CONTENDERS]
        native = group["native"]
        shares = [f"{native[f'share_of_{copy}_copy']:.2f}" for copy in ("same_size", "dram")]
        lines.append(f"| {' | '.join([kernel, size, *times, *shares])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(table(json.loads(Path(sys.argv[1]).read_text())))
