"""Two ranks train one small network by DistributedDataParallel; evicted, they go on from the step where they were.

One process a rank, as Muster starts them (`workers: 2`): RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT are set. Gloo on
CPUs; NCCL where each rank was granted a GPU. The data is made here (three spirals in the plane), nothing is downloaded.

All ranks have the same weights, so rank 0 saves for all (`--single`). SIGUSR1 means: save. It reaches the ranks at
slightly different moments, so each step they agree by an all-reduce whether this is the one that is saved.
"""

import argparse
import hashlib
import os
import pathlib
import signal
import subprocess
import sys

asked_to_save = False


def ask(*_):
    global asked_to_save
    asked_to_save = True


signal.signal(signal.SIGUSR1, ask)  # before torch is read: until there is a handler, this signal ends the process

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch import nn  # noqa: E402

CLASSES, POINTS, BATCH = 3, 3072, 64
GO_ON, SAVE, LEAVE = 0, 1, 2  # what a rank was asked; the highest of all ranks counts
GO_ON_LATER = 85  # "I have checkpointed, queue me again"


def spirals():
    """(points × 2, class of each), the same in every rank."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(POINTS) % CLASSES
    radius = torch.rand(POINTS, generator=generator)
    angle = 4 * radius + 2 * torch.pi / CLASSES * labels + 0.15 * torch.randn(POINTS, generator=generator)
    return torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=1), labels


def batch_of(step, rank, size):
    """This rank's part of a batch. It depends on the step alone: there is no position in the data to save."""
    per_epoch = POINTS // BATCH
    epoch, batch = divmod(step, per_epoch)
    order = torch.randperm(POINTS, generator=torch.Generator().manual_seed(1000 + epoch))
    return order[batch * BATCH : (batch + 1) * BATCH][rank::size]


def agreed(device):
    """What the ranks together do after this step."""
    mine = GO_ON
    if os.environ.get("MUSTER_SOCKET"):
        # The file is there before the signal is: no moment is too short to see it.
        leaving = os.path.exists(os.environ["MUSTER_DEADLINE_FILE"])
        mine = LEAVE if leaving else SAVE if asked_to_save else GO_ON
    highest = torch.tensor([mine], device=device)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return int(highest)


def save(step, model, optimizer):
    """A directory that is whole or not there. → it"""
    directory = pathlib.Path(os.environ["MUSTER_CHECKPOINT_DIR"], f"step-{step}")
    part = directory.with_suffix(".part")
    part.mkdir()
    torch.save({"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, part / "state.pt")
    return part.rename(directory)


def commit(path, step):
    """Starts the commit for all ranks; training goes on meanwhile."""
    arguments = ["muster", "checkpoint", "commit", path, "--step", str(step), "--single"]
    return subprocess.Popen(arguments, start_new_session=True)  # the next signal to this process group is not for it


parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=2000)
args = parser.parse_args()

on_gpu = torch.cuda.is_available()
device = torch.device("cuda", 0) if on_gpu else torch.device("cpu")
torch.set_num_threads(1)
dist.init_process_group("nccl" if on_gpu else "gloo")
rank, size = dist.get_rank(), dist.get_world_size()

torch.manual_seed(1)
points, labels = (tensor.to(device) for tensor in spirals())
network = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, CLASSES)).to(device)
model = nn.parallel.DistributedDataParallel(network)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
step = 0
if os.environ.get("MUSTER_RESUME_FROM"):
    saved = torch.load(
        pathlib.Path(os.environ["MUSTER_RESUME_FROM"], "state.pt"), map_location=device, weights_only=True
    )
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    step = saved["step"]
    print(f"rank {rank}: resumed after step {step}", flush=True)

committing = None  # rank 0's newest commit
while step < args.steps:
    mine = batch_of(step, rank, size).to(device)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(points[mine]), labels[mine])
    loss.backward()
    optimizer.step()
    step += 1
    if rank == 0 and step % 100 == 0:
        print(f"step {step}/{args.steps}  loss {loss.item():.4f}", flush=True)
    what = agreed(device)
    if what == GO_ON:
        continue
    asked_to_save = False
    if rank == 0 and (what == LEAVE or committing is None or committing.poll() is not None):
        committing = commit(save(step, model, optimizer), step)
    if what == LEAVE:
        if rank == 0:
            print(f"leaving after step {step}: the commit ended with {committing.wait()}", flush=True)
        dist.barrier()  # a rank that ends early takes the others with it, and rank 0 still commits
        sys.exit(GO_ON_LATER)

with torch.no_grad():
    right = float((network(points).argmax(1) == labels).float().mean())
weights = b"".join(value.cpu().numpy().tobytes() for value in network.state_dict().values())
print(f"rank {rank}: accuracy {right:.4f}, final weights: sha256 {hashlib.sha256(weights).hexdigest()}", flush=True)
dist.destroy_process_group()
