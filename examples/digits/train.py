"""train: one small neural network (64 → 96 → 10, ReLU, softmax) by plain minibatch SGD with momentum, in numpy.

In: the data of `prepare`, a seed, a learning rate. Out: model.npz, metrics.json (loss and accuracy of each epoch).
The seed decides the weights and the order of the batches, so a retried attempt gives the same model.
"""

import argparse

import task

timing = task.Timing()

import numpy as np  # noqa: E402

HIDDEN = 96
BATCH = 16
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4


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
for epoch in range(1, args.epochs + 1):
    order = rng.permutation(len(train_y))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        for name, gradient in gradients(weights, train_x[batch], train_y[batch]).items():
            velocity[name] = MOMENTUM * velocity[name] - args.lr * (gradient + WEIGHT_DECAY * weights[name])
            weights[name] += velocity[name]
    loss, _ = loss_and_accuracy(weights, train_x, train_y)
    _, accuracy = loss_and_accuracy(weights, valid_x, valid_y)
    epochs.append({"epoch": epoch, "loss": loss, "accuracy": accuracy})
    print(f"epoch {epoch}/{args.epochs}  loss {loss:.4f}  validation accuracy {accuracy:.4f}")

np.savez_compressed(task.output_path("model.npz"), **weights)
task.write_json(
    "metrics.json", {"seed": args.seed, "lr": args.lr, "epochs": epochs, "timing": timing.finish()}
)
