"""A language model trained by transformers' Trainer, which knows nothing of Muster: it writes `checkpoint-N`, and
`checkpoint.watch` in the job file commits each of them. Resuming is one argument of `train`.

The model is small and made here from a configuration; so is the text it learns (a counter in words). No download.
"""

import argparse
import os

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

WORDS, LENGTH = 64, 32


class Counting(torch.utils.data.Dataset):
    """Sequences that count upwards by a step of one to seven, modulo the vocabulary."""

    def __len__(self):
        return 2048

    def __getitem__(self, item):
        words = (item + torch.arange(LENGTH) * (item % 7 + 1)) % WORDS
        return {"input_ids": words, "labels": words}


parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=1000)
parser.add_argument("--save-steps", type=int, default=100)
args = parser.parse_args()

torch.manual_seed(1)
config = GPT2Config(
    vocab_size=WORDS, n_positions=LENGTH, n_embd=64, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
)
trainer = Trainer(
    model=GPT2LMHeadModel(config),
    args=TrainingArguments(
        output_dir=os.environ.get("MUSTER_CHECKPOINT_DIR", "out"),
        max_steps=args.steps,
        per_device_train_batch_size=16,
        learning_rate=2e-3,
        logging_steps=25,
        save_steps=args.save_steps,
        save_total_limit=3,
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    ),
    train_dataset=Counting(),
)
result = trainer.train(resume_from_checkpoint=os.environ.get("MUSTER_RESUME_FROM") or None)
print(f"trained to step {result.global_step}")
