#!/bin/sh
# Compile the extension with the address and undefined-behaviour sanitizers into a temporary folder,
# and run tests/kernels against it. Usage: tests/kernels/sanitize.sh [python] [pytest arguments]
# Needs g++, and cmake, ninja, nanobind and the test dependencies in that Python.
set -eu
python=$(command -v "${1:-python}")
[ $# -eq 0 ] || shift
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts=$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))')
PATH="$scripts:$PATH"

cmake -S "$root" -B "$work/build" -G Ninja -DCMAKE_CXX_COMPILER=g++ \
    -DPython_EXECUTABLE="$python" -DTENSOR_OPTIX_SANITIZE=ON >"$work/log" || { cat "$work/log"; exit 1; }
cmake --build "$work/build" --target _native >"$work/log" || { cat "$work/log"; exit 1; }

# A copy of the package, so that the checkout's own extension stays what it is.
cp -R "$root/tensor_optix" "$root/tests" "$root/pyproject.toml" "$work"
rm -f "$work"/tensor_optix/kernels/_native*.so
cp "$work"/build/_native*.so "$work/tensor_optix/kernels"

# libstdc++ goes along, or the sanitizer would not find the exceptions it must intercept.
preload="$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libstdc++.so)"
cd "$work"
unset PYTHONPATH
# Python never frees everything, so leaks cannot be told from its own.
TENSOR_OPTIX_KERNELS=native ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    LD_PRELOAD="$preload" "$python" -m pytest tests/kernels -q -p no:cacheprovider "$@"
