"""Turn a pytest-benchmark JSON file into the tables of README.md.

`python benchmarks/kernels/report.py results.json` writes Markdown to standard output: the kernels, then the
engine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CONTENDERS = ("native", "numba", "plain", "numpy")


def groups_of(results: dict[str, Any], figure: str) -> dict[str, dict[str, Any]]:
    """Return the figures of each contender by group, of those that have this one."""
    groups: dict[str, dict[str, Any]] = {}
    for entry in results["benchmarks"]:
        if figure in entry["extra_info"]:
            group = groups.setdefault(entry["group"], {})
            group[entry["params"]["contender"]] = entry["extra_info"]
    return groups


def engine_table(results: dict[str, Any]) -> str:
    """Return one line per case of the engine: best times, and native's share of the rate of products."""
    lines = [
        "| case | size | native us | NumPy us | PyTorch us | share of the rate of products |",
        "|---|---|---|---|---|---|",
    ]
    for name, group in groups_of(results, "share_of_gemm").items():
        case, size = name.split()
        times = [
            f"{group[contender]['microseconds']:.1f}" if contender in group else ""
            for contender in ("native", "numpy", "torch")
        ]
        share = f"{group['native']['share_of_gemm']:.2f}"
        lines.append(f"| {' | '.join([case, size, *times, share])} |")
    return "\n".join(lines) + "\n"


def table(results: dict[str, Any]) -> str:
    """Return one line per kernel and size: best times, then native's share of copy bandwidth."""
    lines = [
        "| kernel | size | native us | numba us | plain numba us | NumPy us "
        "| share of a copy of that size | share of a DRAM copy |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, group in groups_of(results, "share_of_dram_copy").items():
        kernel, size = name.split()
        times = [f"{group[contender]['microseconds']:.1f}" for contender in CONTENDERS]
        native = group["native"]
        shares = [f"{native[f'share_of_{copy}_copy']:.2f}" for copy in ("same_size", "dram")]
        lines.append(f"| {' | '.join([kernel, size, *times, *shares])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    read = json.loads(Path(sys.argv[1]).read_text())
    sys.stdout.write(table(read) + "\n" + engine_table(read))
