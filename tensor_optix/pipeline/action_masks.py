"""Which actions environments allow, as infos tell it: those of N environments come in, masks go out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tensor_optix.core.observation_layout import ACTION_MASK
from tensor_optix.pipeline.info_keys import FINAL_INFO

if TYPE_CHECKING:
    from tensor_optix.core.types import Array


class MaskReader:
    """Reads the masks of one backend's environments, whose first reset decides whether there are any.

    Infos are those of a vector step: what is under "action_mask", an array `[N, ...]` or N objects, counts in
    the rows where "_action_mask" says so, if that is there.

    Args:
        who: The environments, for messages.
        num_envs: N.

    Attributes:
        size: A, the length of a mask; 0 where none are told.
    """

    def __init__(self, who: str, num_envs: int) -> None:
        self.size = 0
        self._who, self._num_envs = who, num_envs
        self._problem: Exception | None = None

    def begin(self, infos: Mapping[str, Any]) -> Array | None:
        """Return the masks `[N, A]` bool that a reset of all environments tells; None where it tells none.

        Those that are none are told as none, until `require` is called: not everybody needs masks.
        """
        self.size, self._problem = 0, None
        if ACTION_MASK not in infos:
            return None
        try:
            return self.read(infos, np.ones(self._num_envs, bool))
        except (TypeError, ValueError) as error:
            self.size, self._problem = 0, error
            return None

    def require(self) -> None:
        """Refuse what the last reset told, if that was no mask.

        Raises:
            TypeError: If a mask is not made of 0 and 1.
            ValueError: If some environments have masks and others none, or masks differ in length.
        """
        if self._problem is not None:
            raise self._problem

    def read(self, infos: Mapping[str, Any], needed: Array) -> Array:
        """Return the masks `[N, A]` bool of a vector step: all actions of a row that has none.

        Args:
            infos: Those of all environments.
            needed: `[N]` bool, the rows that must have one.

        Raises:
            TypeError: If a mask is not made of 0 and 1.
            ValueError: If a row lacks the mask that it needs, or masks differ in length.
        """
        given = infos.get(ACTION_MASK)
        told = self._told(given, infos.get(f"_{ACTION_MASK}", True))
        if (needed & ~told).any():
            raise ValueError(
                f"{self._who}: infos must have {ACTION_MASK!r} at every reset and every step, of every "
                "environment, or at none; some have it and some do not"
            )
        if not told.any():
            return np.ones((self._num_envs, self.size), bool)
        rows = self._rows(given, told)
        self._check(rows)
        masks = np.ones((self._num_envs, self.size), bool)
        masks[told] = rows
        return masks

    def ends(self, infos: Mapping[str, Any], done: Array) -> Array:
        """Return the masks `[K, A]` of K last observations where the environments reset in the same step.

        They are told in "final_info"; where none is, all actions are allowed.
        """
        final = infos.get(FINAL_INFO)
        if final is None:
            final = {}
        elif not isinstance(final, Mapping):
            # An info for each environment, in place of an array for each key.
            final = {ACTION_MASK: [(info or {}).get(ACTION_MASK) for info in final]}
        masks: Array = self.read(final, np.zeros(self._num_envs, bool))[done]
        return masks

    def refuse(self, infos: Mapping[str, Any]) -> None:
        """Refuse masks that come with a step where the reset before told none.

        Raises:
            ValueError: If there are any.
        """
        if ACTION_MASK in infos:
            raise ValueError(
                f"{self._who}: infos must have {ACTION_MASK!r} at every reset and every step, of every "
                "environment, or at none; step had it and reset did not, whose observation the first action "
                "is chosen from"
            )

    def _told(self, given: Any, says: Any) -> Array:
        told = np.zeros(self._num_envs, bool)
        if given is None:
            return told
        told |= np.asarray(says, bool)
        if not _is_array(given):
            told &= np.array([mask is not None for mask in given])
        return told

    def _rows(self, given: Any, told: Array) -> Array:
        if _is_array(given):
            rows: Array = given.reshape(self._num_envs, -1)[told]
            return rows
        masks = [np.ravel(given[n]) for n in np.flatnonzero(told)]
        self._require_lengths({len(mask) for mask in masks})
        return np.stack(masks)

    def _check(self, rows: Array) -> None:
        """Check masks `[K, A]`; the first ones decide on A."""
        if rows.dtype.kind not in "biuf" or ((rows != 0) & (rows != 1)).any():
            raise TypeError(
                f"{self._who}: {ACTION_MASK!r} must hold 1 for each action that is allowed and 0 for the "
                f"others, got {rows[0]}"
            )
        self._require_lengths({rows.shape[1]})
        self.size = rows.shape[1]

    def _require_lengths(self, lengths: set[int]) -> None:
        if len(lengths | ({self.size} if self.size else set())) > 1:
            raise ValueError(
                f"{self._who}: {ACTION_MASK!r} must have one length at every reset and every step, of every "
                f"environment, got {' and '.join(map(str, sorted(lengths | {self.size} - {0})))}"
            )


def _is_array(given: Any) -> bool:
    return isinstance(given, np.ndarray) and given.dtype != object
