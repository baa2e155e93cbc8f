"""train: one small neural network (64 → 96 → 10, ReLU, softmax) by plain minibatch SGD with momentum, in numpy.

In: the data of `prepare`, a seed, a learning rate. Out: model.npz, metrics.json (loss and accuracy of each epoch).
The seed decides the weights and the order of the batches, so a retried attempt gives the same model.

SIGUSR1 means: save. It comes each `checkpoint.every`, and when this machine is to be left; the end of the epoch saves
all that the rest of the training depends on, and a later attempt goes on from there, on whichever worker, to the same
weights to the last bit.
"""

import argparse
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import task

asked_to_save = False


def ask(*_):
    global asked_to_save
    asked_to_save = True


signal.signal(signal.SIGUSR1, ask)  # before numpy is read: until there is a handler, this signal ends the process
timing = task.Timing()

import numpy as np  # noqa: E402

HIDDEN = 96
BATCH = 16
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
GO_ON_LATER = 85  # "I have checkpointed, queue me again"


def forward(weights, x):
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0.0)
    logits = hidden @ weights["w2"] + weights["b2"]
    logits -= logits.max(axis=1, keepdims=True)
    odds = np.exp(logits)
    return hidden, odds / odds.sum(axis=1, keepdims=True)


def gradients(weights, x, y):
    hidden, probability = forward(weights, x)
    error = probability
    error[np.arange(len(y)), y] -= 1.0
    error /= len(y)
    back = (error @ weights["w2"].T) * (hidden > 0)
    return {"w1": x.T @ back, "b1": back.sum(0), "w2": hidden.T @ error, "b2": error.sum(0)}


def loss_and_accuracy(weights, x, y):
    _, probability = forward(weights, x)
    loss = -np.log(probability[np.arange(len(y)), y] + 1e-12).mean()
    return float(loss), float((probability.argmax(1) == y).mean())


# --- checkpoints: a directory that is whole or not there, and one command


def commit(path, step):
    """Starts the commit of what was saved; training goes on meanwhile, however slow the store is."""
    arguments = ["muster", "checkpoint", "commit", path, "--step", str(step)]
    return subprocess.Popen(arguments, start_new_session=True)  # the next signal to this process group is not for it


def save():
    """Everything that the epochs to come depend on. → its directory"""
    directory = pathlib.Path(os.environ["MUSTER_CHECKPOINT_DIR"], f"epoch-{len(epochs)}")
    part = directory.with_suffix(".part")
    part.mkdir()
    velocities = {f"velocity_{name}": value for name, value in velocity.items()}
    np.savez(part / "arrays.npz", **weights, **velocities)
    (part / "rest.json").write_text(json.dumps({"epochs": epochs, "rng": rng.bit_generator.state}))
    return part.rename(directory)  # nobody ever sees half of it


def load(directory):
    with np.load(directory / "arrays.npz") as arrays:
        for name in weights:
            weights[name], velocity[name] = arrays[name], arrays[f"velocity_{name}"]
    rest = json.loads((directory / "rest.json").read_text())
    rng.bit_generator.state = rest["rng"]
    epochs.extend(rest["epochs"])


parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, required=True)
parser.add_argument("--lr", type=float, required=True)
parser.add_argument("--epochs", type=int, default=160)
args = parser.parse_args()

with np.load(task.input_path("data")) as data:
    train_x, train_y = data["train_x"], data["train_y"]
    valid_x, valid_y = data["valid_x"], data["valid_y"]

rng = np.random.default_rng(args.seed)
weights = {
    "w1": rng.normal(0, np.sqrt(2 / 64), (64, HIDDEN)).astype(np.float32),
    "b1": np.zeros(HIDDEN, np.float32),
    "w2": rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, 10)).astype(np.float32),
    "b2": np.zeros(10, np.float32),
}
velocity = {name: np.zeros_like(value) for name, value in weights.items()}
epochs = []
if os.environ.get("MUSTER_RESUME_FROM"):
    load(pathlib.Path(os.environ["MUSTER_RESUME_FROM"]))
    print(f"resumed after epoch {len(epochs)}")

committing = None  # the newest commit
while len(epochs) < args.epochs:
    order = rng.permutation(len(train_y))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        for name, gradient in gradients(weights, train_x[batch], train_y[batch]).items():
            velocity[name] = MOMENTUM * velocity[name] - args.lr * (gradient + WEIGHT_DECAY * weights[name])
            weights[name] += velocity[name]
    loss, _ = loss_and_accuracy(weights, train_x, train_y)
    _, accuracy = loss_and_accuracy(weights, valid_x, valid_y)
    epochs.append({"epoch": len(epochs) + 1, "loss": loss, "accuracy": accuracy})
    print(f"epoch {len(epochs)}/{args.epochs}  loss {loss:.4f}  validation accuracy {accuracy:.4f}")
    if asked_to_save and os.environ.get("MUSTER_SOCKET"):
        asked_to_save = False  # before the look: who asks after it is heard after the next epoch
        leaving = os.path.exists(os.environ["MUSTER_DEADLINE_FILE"])
        if leaving or committing is None or committing.poll() is not None:
            committing = commit(save(), len(epochs))
        if leaving:
            print(f"leaving after epoch {len(epochs)}: the commit ended with {committing.wait()}")
            sys.exit(GO_ON_LATER)

np.savez_compressed(task.output_path("model.npz"), **weights)
task.write_json(
    "metrics.json", {"seed": args.seed, "lr": args.lr, "epochs": epochs, "timing": timing.finish()}
)
digest = hashlib.sha256(b"".join(weights[name].tobytes() for name in sorted(weights)))
print(f"final weights: sha256 {digest.hexdigest()}")
