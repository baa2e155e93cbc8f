"""evaluate: every model of the array on the validation set, again and from its file, with the confusion of the best.

In: the data of `prepare`; the models and metrics of all indices of `train` (a directory each, one entry per index).
Out: results.json. A model that does not reproduce the accuracy its training printed fails the task.
"""

import json
import sys

import task

timing = task.Timing()

import numpy as np  # noqa: E402
from sklearn.metrics import confusion_matrix  # noqa: E402

with np.load(task.input_path("data")) as data:
    valid_x, valid_y = data["valid_x"], data["valid_y"]

runs = []
for (index, model), (metrics_index, metrics) in zip(
    task.array_inputs("models"), task.array_inputs("metrics"), strict=True
):
    assert index == metrics_index, f"model of index {index} beside the metrics of index {metrics_index}"
    run = json.loads(metrics.read_text())
    with np.load(model) as weights:
        hidden = np.maximum(valid_x @ weights["w1"] + weights["b1"], 0.0)
        predicted = (hidden @ weights["w2"] + weights["b2"]).argmax(1)
    run["index"] = index
    run["accuracy"] = float((predicted == valid_y).mean())
    run["confusion"] = confusion_matrix(valid_y, predicted, labels=range(10)).tolist()
    # One digit of slack: another processor may round the last bit of a tie the other way.
    if abs(run["accuracy"] - run["epochs"][-1]["accuracy"]) > 1.5 / len(valid_y):
        sys.exit(f"error: model {index} gives {run['accuracy']}, its training gave {run['epochs'][-1]['accuracy']}")
    runs.append(run)
    print(f"index {index}: seed {run['seed']}, learning rate {run['lr']}: accuracy {run['accuracy']:.4f}")

best = max(runs, key=lambda run: run["accuracy"])
print(f"best of {len(runs)}: index {best['index']}, accuracy {best['accuracy']:.4f}")
task.write_json(
    "results.json", {"runs": runs, "best": best["index"], "validated": len(valid_y), "timing": timing.finish()}
)
