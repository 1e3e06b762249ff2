"""TensorFlow and Keras, or an error that says what to do: the adapter takes both from here."""

from __future__ import annotations

import os
import sys

REMEDY = "set the environment variable KERAS_BACKEND=tensorflow before Keras is first imported"

_chosen = os.environ.get("KERAS_BACKEND", "tensorflow")
if _chosen != "tensorflow" and "keras" not in sys.modules:
    # Asked before the import, because Keras would load the other framework, or fail to.
    raise ImportError(f"Keras must run on TensorFlow, got KERAS_BACKEND={_chosen}; {REMEDY}")
try:
    import keras
    import tensorflow as tf
except ImportError as error:
    raise ImportError("this needs TensorFlow: pip install 'tensor-optix[tensorflow]'") from error

if int(keras.__version__.split(".")[0]) < 3:
    raise ImportError(f"this needs Keras 3, got {keras.__version__}: pip install 'keras>=3.5'")
if keras.config.backend() != "tensorflow":
    raise ImportError(f"Keras must run on TensorFlow, got {keras.config.backend()}; {REMEDY}")

__all__ = ["keras", "tf"]
