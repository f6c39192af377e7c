"""Makes `networks` importable by the tests of this folder; small networks are quickest on one thread."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)
