"""Making a model: the home of torch."""

import os

# PyTorch's threads wait for each other in a loop, by default for so long that beside another busy process a step takes
# ten times as long. After this many turns they sleep. It has to be set before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
