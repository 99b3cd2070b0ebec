"""`python -m azr_jax …` is `azr …`."""

import sys

from azr_jax.cli import main

sys.exit(main())
