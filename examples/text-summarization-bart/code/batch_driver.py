"""Summarizes the texts in a column of CSV files with BART: one row per text, in the file's order.

Texts are put together in batches of similar length, the longest first: a batch is as wide as its
longest text, and what would not fit into memory shows at once. Their order is restored afterwards.
"""
# pyright: reportMissingImports=false
# torch and transformers live in this deployment's environment, not in batchpoint's.

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer: Any
model: Any
device: str


def init() -> None:
    """Load tokenizer and weights, once per worker; half precision where there is a GPU."""
    global tokenizer, model, device
    device = "cuda" if torch.cuda.is_available() else "cpu"
    folder = Path(os.environ["AZUREML_MODEL_DIR"], "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(
        folder, dtype=torch.float16 if device == "cuda" else torch.float32
    )
    model.to(device).eval()


def run(mini_batch: list[str]) -> pd.DataFrame:
    """Summarize each text of each file: rows of file, row (from 0) and summary."""
    column = os.environ.get("TEXT_COLUMN", "text")
    return pd.concat([summarized_file(Path(path), column) for path in mini_batch])


def summarized_file(path: Path, column: str) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if column not in table:
        raise ValueError(
            f"{path.name} has no column {column!r} (TEXT_COLUMN); it has: {', '.join(table)}"
        )
    summaries = summarized(table[column].tolist(), int(os.environ.get("BATCH_SIZE", "16")))
    return pd.DataFrame({"file": path.name, "row": range(len(summaries)), "summary": summaries})


def summarized(texts: list[str], batch_size: int) -> list[str]:
    """Summarize texts in batches of similar length; the order of the answer is that of `texts`."""
    tokens = tokenizer(texts, truncation=True, max_length=model.config.max_position_embeddings)
    lengths = [len(ids) for ids in tokens["input_ids"]]
    longest_first = sorted(range(len(texts)), key=lambda row: (-lengths[row], row))
    summaries = [""] * len(texts)
    for begin in range(0, len(texts), batch_size):
        rows = longest_first[begin : begin + batch_size]
        batch = tokenizer.pad(
            {name: [values[row] for row in rows] for name, values in tokens.items()},
            return_tensors="pt",
        ).to(device)
        for row, summary in zip(rows, generated(batch), strict=True):
            summaries[row] = summary
    return summaries


def generated(batch: Any) -> list[str]:
    """Generate for one batch of padded tokens."""
    with torch.inference_mode():
        tokens = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            num_beams=int(os.environ.get("BEAMS", "2")),
            max_new_tokens=int(os.environ.get("SUMMARY_TOKENS_MAX", "24")),
            do_sample=False,
        )
    found = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [" ".join(text.split()) for text in found]
