"""Makes a tiny BART and its tokenizer, saved as the real ones are, and what they have to say.

    model/                    `save_pretrained` of a BartForConditionalGeneration and its tokenizer
    expected/summaries.csv    the summary of each text in data/, generated for one text at a time

The tokenizer is trained on data/; the network begins at random and sees reports and headlines for
some seconds, enough for these and for nothing else. How it is saved, loaded and run is what real
weights need, too (see the README). Nothing here knows of batchpoint.
"""
# pyright: reportMissingImports=false
# torch, tokenizers and transformers live in this example's own environment, not in batchpoint's.

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from make_texts import reports
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

HERE = Path(__file__).resolve().parent
MODEL = HERE / "model"
SEED = 11
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
STEPS = 200
BATCH = 32


class Report(NamedTuple):
    file: str
    row: int
    title: str
    text: str


def saved_reports() -> Iterator[Report]:
    """Yield everything in data/, in order."""
    for path in sorted((HERE / "data").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file)):
                yield Report(path.name, number, row["title"], row["text"])


def trained_tokenizer() -> PreTrainedTokenizerFast:
    """Train byte-level BPE as BART's is: <s> … </s> around each text."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        (report.text for report in saved_reports()), vocab_size=600, special_tokens=SPECIAL
    )
    trained._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", SPECIAL.index("<s>")), ("</s>", SPECIAL.index("</s>"))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=512,
    )


def tiny_bart(tokenizer: PreTrainedTokenizerFast) -> BartForConditionalGeneration:
    torch.manual_seed(SEED)
    config = BartConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        dropout=0.0,
        init_std=0.1,  # 0.02 is for widths of a thousand
    )
    return BartForConditionalGeneration(config)


def train(model: Any, tokenizer: Any) -> None:
    """Show it invented reports, the beginnings of most and the whole of some, with headlines."""
    pairs = reports(STEPS * BATCH, SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    model.train()
    for step in range(STEPS):
        part = pairs[step * BATCH : (step + 1) * BATCH]
        shown = 80 if step % 4 else None
        batch = tokenizer([text[:shown] for _, text in part], padding=True, return_tensors="pt")
        wanted = tokenizer([headline for headline, _ in part], padding=True, return_tensors="pt")
        labels = wanted["input_ids"].masked_fill(wanted["attention_mask"] == 0, -100)
        loss = model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def write_expected() -> None:
    """Load what was saved and generate for each text by itself: no batch, no padding, no order."""
    sys.path.insert(0, str(HERE / "code"))
    os.environ["AZUREML_MODEL_DIR"] = str(HERE)
    import batch_driver

    batch_driver.init()
    (HERE / "expected").mkdir(exist_ok=True)
    right, found = 0, list(saved_reports())
    with (HERE / "expected" / "summaries.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["file", "row", "summary"])
        for report in found:
            tokens = batch_driver.tokenizer(report.text, return_tensors="pt")
            (summary,) = batch_driver.generated(tokens)
            rows.writerow([report.file, report.row, summary])
            right += summary == report.title
    print(f"BART: {right} of {len(found)} summaries are the headline")


def main() -> None:
    disable_progress_bar()
    torch.set_num_threads(1)  # the network is too small to be shared out
    tokenizer = trained_tokenizer()
    model = tiny_bart(tokenizer)
    train(model, tokenizer)
    tokenizer.save_pretrained(MODEL)
    model.save_pretrained(MODEL)
    write_expected()


if __name__ == "__main__":
    main()
