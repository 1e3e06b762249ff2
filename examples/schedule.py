"""A schedule: a hyperparameter that is a function of the share of the run that is left.

    python examples/schedule.py

The share is 1 in the first window, and just above 0 in the last. Any number may follow a function; it moves
once a window, and the tuner leaves it alone.
"""

import argparse

from tensor_optix import LoopCallback, RLOptimizer, VectorBatchPipeline, make_agent


class Recorder(LoopCallback):
    def __init__(self, agent):
        self.agent, self.rates = agent, []

    def on_window(self, report):
        self.rates.append(self.agent.get_hyperparams().params["learning_rate"])


def main(max_steps):
    agent = make_agent(
        "CartPole-v1",
        "ppo",
        "native",
        hyperparams={
            "learning_rate": lambda left: 2e-3 * left,
            "entropy_coef": lambda left: 0.01 if left > 0.5 else 0.0,
        },
        seed=0,
    )
    recorder = Recorder(agent)
    optimizer = RLOptimizer(
        agent=agent,
        pipeline=VectorBatchPipeline(env_id="CartPole-v1", num_envs=8, window_size=256),
        callbacks=[recorder],
        max_steps=max_steps,
        seed=0,
        progress=True,
    )
    optimizer.run()
    score = optimizer.best_snapshot.eval_metrics.primary_score
    print(
        f"The learning rate went from {recorder.rates[0]:.1e} to {recorder.rates[-1]:.1e}; "
        f"the best policy keeps the pole up for {score:.0f} of 500 steps."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-steps", type=int, default=60_000)
    main(parser.parse_args().max_steps)
