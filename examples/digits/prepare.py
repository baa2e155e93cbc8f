"""prepare: the digits of scikit-learn, shuffled by a fixed seed and split into train and validation, as one file.

In: nothing. Out: data.npz (float32 pixels in 0..1, integer labels), timing.json.
"""

import task

timing = task.Timing()
task.require_packages()

import numpy as np  # noqa: E402  (after the check, which says what to install)
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402

digits = load_digits()
pixels = (digits.data / 16.0).astype(np.float32)
train_x, valid_x, train_y, valid_y = train_test_split(
    pixels, digits.target, test_size=0.25, random_state=7, stratify=digits.target
)
np.savez_compressed(
    task.output_path("data.npz"), train_x=train_x, train_y=train_y, valid_x=valid_x, valid_y=valid_y
)
task.write_json("timing.json", timing.finish())
print(f"prepared {len(train_y)} digits to train on and {len(valid_y)} to validate with")
