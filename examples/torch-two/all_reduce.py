"""Two processes add up their ranks on the GPUs of one task; wrong sums end with 1.

With two GPUs each process has its own and NCCL carries the sum; with one both share it, and gloo does.
"""

import os
import sys

import torch
import torch.distributed as dist

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
own = torch.cuda.device_count() >= size
device = torch.device("cuda", rank if own else 0)
dist.init_process_group("nccl" if own else "gloo")
value = torch.full((1 << 20,), float(rank + 1), device=device)
# gloo reduces on the host.
shared = value if own else value.cpu()
dist.all_reduce(shared)
expected = size * (size + 1) / 2
right = bool((shared == expected).all())
print(f"rank {rank} of {size} on {torch.cuda.get_device_name(device)}: {'right' if right else 'wrong'}")
dist.destroy_process_group()
sys.exit(0 if right else 1)
