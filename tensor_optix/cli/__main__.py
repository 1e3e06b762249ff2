"""`python -m tensor_optix.cli`."""

import sys

from tensor_optix.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
