"""The compiled kernels: arrays of a rollout or a batch come in, arrays of the caller are filled.

One set of functions: C++ where the extension could be built, numba elsewhere (same results, same
errors). The environment variable `TENSOR_OPTIX_KERNELS` (`native` or `numba`) forces one; `BACKEND`
says which one serves.

All arrays are C-contiguous NumPy arrays, masks uint8 or bool, T rows in time, N environments.
Nothing is allocated, the GIL is released. A wrong dtype, layout or shape is a ValueError that names
the argument, and so is a number out of range; an argument that is no array (or no number) is a
TypeError. Outputs must not share memory with other arguments, unless a
function says so. T, N or B may be 0.
"""

from tensor_optix.kernels._backend import BACKEND as BACKEND
from tensor_optix.kernels._replay import replay_draw as replay_draw
from tensor_optix.kernels._replay import replay_extend as replay_extend
from tensor_optix.kernels._replay import replay_flush as replay_flush
from tensor_optix.kernels._replay import replay_gather as replay_gather
from tensor_optix.kernels._rollout import discounted_returns as discounted_returns
from tensor_optix.kernels._rollout import episode_statistics as episode_statistics
from tensor_optix.kernels._rollout import gae as gae
from tensor_optix.kernels._rollout import gather as gather
from tensor_optix.kernels._rollout import normalize as normalize
from tensor_optix.kernels._rollout import shuffle as shuffle
from tensor_optix.kernels._rollout import update_and_normalize as update_and_normalize
from tensor_optix.kernels._rollout import update_moments as update_moments
from tensor_optix.kernels._sum_tree import priorities_replace as priorities_replace
from tensor_optix.kernels._sum_tree import priorities_rescale as priorities_rescale
from tensor_optix.kernels._sum_tree import priorities_update as priorities_update
from tensor_optix.kernels._sum_tree import sum_tree_fill as sum_tree_fill
from tensor_optix.kernels._sum_tree import sum_tree_rebuild as sum_tree_rebuild
from tensor_optix.kernels._sum_tree import sum_tree_sample as sum_tree_sample
from tensor_optix.kernels._sum_tree import sum_tree_set as sum_tree_set
