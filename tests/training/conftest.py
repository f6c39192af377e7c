"""Small networks are quickest on one thread, and most so beside others."""

import torch

torch.set_num_threads(1)
