"""Networks of your own in Keras, trained by TensorFlow.

    python examples/keras_networks.py

Any Keras 3 model will do; one with a `keras.Input` is built at once.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow tells much when it starts.

import keras
from keras import layers

from tensor_optix import HyperparamSet, RLOptimizer, TFPPOAgent, VectorBatchPipeline

parser = argparse.ArgumentParser(description="Balance a pole with Keras.")
parser.add_argument("--max-steps", type=int, default=50_000)
arguments = parser.parse_args()


def network(outputs: int) -> keras.Model:
    """Return a network with a layer that is passed by."""
    observation = keras.Input((4,))
    features = layers.Dense(64, "tanh")(observation)
    both = layers.Concatenate()([observation, layers.Dense(64, "tanh")(features)])
    return keras.Model(observation, layers.Dense(outputs)(both))


keras.utils.set_random_seed(0)
agent = TFPPOAgent(
    actor=network(2),
    critic=network(1),
    optimizer=keras.optimizers.Adam(1e-3),
    hyperparams=HyperparamSet({"learning_rate": 1e-3, "minibatch_size": 256}),
)
pipeline = VectorBatchPipeline(env_id="CartPole-v1", num_envs=8, window_size=128)
optimizer = RLOptimizer(agent, pipeline, max_steps=arguments.max_steps, seed=0, verbose=True)
optimizer.run()

score = optimizer.best_snapshot.eval_metrics.primary_score
print(f"The best policy balances for {score:.0f} of 500 steps.")
