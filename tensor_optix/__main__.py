"""`python -m tensor_optix`."""

import sys

from tensor_optix.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
