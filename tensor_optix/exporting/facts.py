"""What an exported file says of the policy in it: a policy comes in, facts by their names go out."""

from __future__ import annotations

import json
import math
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from tensor_optix.core.recorded_spaces import space_to_json
from tensor_optix.exporting.policy_graph import stored_actor_of

if TYPE_CHECKING:
    from tensor_optix.policies.policy import Policy


def facts_of(policy: Policy) -> dict[str, Any]:
    """Return facts of a policy, as `json.dumps` takes them."""
    description = stored_actor_of(policy).description
    recipe, score = description.recipe, policy.snapshot.eval_metrics.primary_score
    seen: Any = description.observation_space
    return {
        "made_by": f"tensor_optix {_version()}".rstrip(),
        "algorithm": recipe.algorithm if recipe is not None else "",
        "acts_by": description.kind,
        "snapshot": policy.snapshot.snapshot_id,
        "score": score if math.isfinite(score) else None,
        "observation_space": space_to_json(seen),
        "action_space": space_to_json(policy.action_space),
    }


def _version() -> str:
    """Return the version of this library; nothing where it is not installed, but run from its source."""
    try:
        return version("tensor-optix")
    except PackageNotFoundError:
        return ""


def as_text(fact: Any) -> str:
    """Return a fact for files that hold nothing but text."""
    return fact if isinstance(fact, str) else json.dumps(fact)
