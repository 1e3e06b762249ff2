#!/usr/bin/env bash
# Runs tests/gpu and benchmarks/gpu.py on a machine with Python, PyTorch and NumPy but no network; `make gpu-kit`
# puts this file beside the wheels it needs.
#
#     bash build/gpu-kit/run.sh [tests | benchmark]
#
# What it prints is also written to $OUT, or beside this file. Of the packages that are left out of the kit,
# SciPy is needed nowhere here, and numba only where the C++ kernels cannot be built.
set -u -o pipefail
cd "$(dirname "$0")"
python=${PYTHON:-python3}
site=$PWD/site-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
export OUT=${OUT:-$PWD} PYTHONPATH=$site TF_CPP_MIN_LOG_LEVEL=3

# Not a virtual environment: made of another one, it would not see that one's PyTorch.
if [ ! -e "$site/tensor_optix" ]; then
  install=("$python" -m pip install --quiet --no-index --no-deps --no-cache-dir --target "$site")
  others=()
  for wheel in wheels/*.whl; do
    [[ $wheel == wheels/tensor_optix* ]] || others+=("$wheel")
  done
  "${install[@]}" "${others[@]}" || exit
  # The wheel where it fits this Python, else its sources, with the machine's CMake and compiler.
  "${install[@]}" --upgrade --find-links wheels --no-build-isolation tensor-optix || exit
fi
"$python" - <<'END' || exit
import torch
from tensor_optix import __version__, kernels

print(f"tensor_optix {__version__}, kernels {kernels.BACKEND}, torch {torch.__version__}, ", end="")
print("GPU", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
END

what=${1:-all}
status=0
if [ "$what" != benchmark ]; then
  # Warnings are not ours on a machine whose packages are others than those we pin.
  "$python" -m pytest -q -p no:cacheprovider -W default tests/gpu 2>&1 | tee "$OUT/tests.txt"
  status=$?
  # 5: nothing ran, as all was skipped.
  [ $status = 5 ] && status=0
fi
if [ "$what" != tests ]; then
  "$python" -m benchmarks.gpu 2>&1 | tee "$OUT/gpu.md" || status=1
fi
exit $status
