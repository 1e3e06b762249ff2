"""What collecting with 8 CartPoles costs, and which of it is this library's."""

from __future__ import annotations

from benchmarks.peers.settings import PPO
from benchmarks.step_profile.collecting import acting_time, adapter_time, keeping_time, own_time
from benchmarks.step_profile.table import markdown, number
from benchmarks.step_profile.training import Training

ENV_ID, NUM_ENVS = "CartPole-v1", 8
GOAL = 45.0
"""Microseconds of a vector step that collecting is to cost at most."""
BACKENDS = {
    "envpool": "EnvPool, one thread: `send` and `recv`",
    "vector": "Gymnasium's vector entry point: `step`",
    "sync": "8 environments of Gymnasium, one by one: `step`",
}

TEXT = """## Acting and collecting: {goal:.0f} us a vector step of 8 CartPoles

Collecting alone, without learning, with the agent of the first case. "Own" are the environments without
this library, by their public methods, in a tight loop; "bare" is the same without the Python of whoever made
them: of EnvPool, its compiled calls. The library's part is everything else; of it, the last three columns
were timed apart.

{table}
With EnvPool, {own} us go to its public methods and {ours} us to everything of the library: the goal
is {reached}. Of what `send` and `recv` take, {python} us are EnvPool's own Python, which nobody
outside of it can leave out. {also}
"""


def cartpole_section() -> str:
    """Measure, and return the section."""
    own, bare, total, rows = {}, {}, {}, []
    for backend, title in BACKENDS.items():
        own[backend], bare[backend], _ = own_time(ENV_ID, NUM_ENVS, backend)
        training = Training(PPO(ENV_ID, num_envs=NUM_ENVS), backend)
        total[backend] = training.collect()
        figures = (
            *(total[backend], own[backend], bare[backend], total[backend] - own[backend]),
            *(adapter_time(training.pipeline.env) - own[backend], acting_time(training)),
            keeping_time(training),
        )
        rows.append([title, *map(number, figures)])
    heads = ("who steps", "collecting, us", "own, us", "bare, us", "the library's, us")
    table = markdown((*heads, "adapter", "acting", "rows of the rollout"), rows)
    ours = total["envpool"] - own["envpool"]
    return TEXT.format(
        goal=GOAL,
        table=table,
        ours=number(ours),
        own=number(own["envpool"]),
        python=number(own["envpool"] - bare["envpool"]),
        reached="reached"
        if total["envpool"] <= GOAL
        else f"missed by {number(total['envpool'] - GOAL)} us",
        also=_others(total),
    )


def _others(total: dict[str, float]) -> str:
    """Say whether another backend would be faster."""
    best = min(total, key=lambda name: total[name])
    if best == "envpool":
        return "The other backends are slower in all."
    return f'The fastest in all is `backend="{best}"`, with {number(total[best])} us.'
