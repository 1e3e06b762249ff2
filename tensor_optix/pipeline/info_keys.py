"""What windows keep of the environments' infos: the infos of a step come in, a dict for each row goes out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tensor_optix.core.types import Array

logger = logging.getLogger(__name__)

FINAL_INFO = "final_info"
"""Where vector environments that reset in the same step put the info of an episode's last row."""


class InfoKeys:
    """The keys of infos that rows are to have. A row without one of them lacks it in its dict.

    Args:
        names: The keys.

    Raises:
        TypeError: If the names are not a sequence of strings.
    """

    def __init__(self, names: Sequence[str]) -> None:
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f'info_keys must be a list of names, such as ["pnl"], got {names!r}')
        self._names = tuple(names)
        self._awaited = set(names)
        self._others: set[str] = set()

    def of_row(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return what one environment's info has of them."""
        if self._awaited:
            self._awaited.difference_update(info)
            self._others.update(info)
        return {name: info[name] for name in self._names if name in info}

    def of_rows(self, infos: Mapping[str, Any], valid: Array, dones: Array) -> list[dict[str, Any]]:
        """Return what the infos of a vector step have of them, a dict per row.

        Args:
            infos: An array `[B, ...]` per key, or a mapping of such arrays. A mask `[B]` under the key
                with an underscore before it tells which rows have it; without one, all do.
            valid: `[B]` bool. Rows that are no transition get nothing.
            dones: `[B]` bool, where an episode ended; these rows' are in "final_info" if there is one.
        """
        rows: list[dict[str, Any]] = [{} for _ in valid]
        final = infos.get(FINAL_INFO)
        if final is None:
            self._fill(rows, infos, valid)
            return rows
        self._fill(rows, infos, valid & ~dones)
        if isinstance(final, Mapping):
            self._fill(rows, final, dones)
            return rows
        for n in np.flatnonzero(dones):
            rows[n] = self.of_row(final[n] or {})
        return rows

    def report_missing(self) -> None:
        """Log once which of the keys no row has had so far, and which were there instead."""
        if self._awaited:
            logger.warning(
                "info_keys: no row of the first window has %s; the infos have %s",
                ", ".join(sorted(self._awaited)),
                ", ".join(sorted(self._others)) or "nothing",
            )
        self._awaited.clear()

    def _fill(self, rows: list[dict[str, Any]], infos: Mapping[str, Any], chosen: Array) -> None:
        if self._awaited:
            self._others.update(_keys(infos))
        for name in self._names:
            if name not in infos:
                continue
            for n in np.flatnonzero(chosen & infos.get(f"_{name}", True)):
                rows[n][name] = _element(infos[name], int(n))
                self._awaited.discard(name)


def _keys(infos: Mapping[str, Any]) -> list[str]:
    """Return the keys of a vector step's infos without the masks."""
    return [key for key in infos if not (key.startswith("_") and key[1:] in infos)]


def _element(values: Any, n: int) -> Any:
    """Return what row `n` has: a copy, as the environment may write over its arrays."""
    if isinstance(values, Mapping):
        masks = {key: values.get(f"_{key}") for key in _keys(values)}
        own = (key for key, mask in masks.items() if mask is None or mask[n])
        return {key: _element(values[key], n) for key in own}
    # What is not one of many is said of all of them.
    value = values[n] if isinstance(values, np.ndarray | list | tuple) else values
    if isinstance(value, np.generic):
        return value.item()
    return value.copy() if isinstance(value, np.ndarray) else value
