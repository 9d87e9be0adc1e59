"""What a user of the command line has in a folder: YAML files, code, a model, and data."""

from __future__ import annotations

import sys
from pathlib import Path

BATCHPOINT = Path(sys.executable).with_name("batchpoint")

# An item's text says what becomes of it; "wait PATH" waits until there is a file PATH.
SCRIPT = """
import os, time

WHO = "blue"

def init():
    pass

def run(mini_batch):
    rows = []
    for path in mini_batch:
        print("looking at " + os.path.basename(path))
        with open(path) as file:
            word, _, rest = file.read().partition(" ")
        if word == "raises":
            raise ValueError("told to raise by " + os.path.basename(path))
        while word == "wait" and not os.path.exists(rest):
            time.sleep(0.01)
        count = {"thrice": 3, "never": 0}.get(word, 1)
        rows += ["%s of %d" % (WHO, len(mini_batch))] * count
    return rows
"""
ENDPOINT = """
$schema: https://azuremlschemas.azureedge.net/latest/batchEndpoint.schema.json
name: NAME
description: scores
auth_mode: aad_token
tags: {team: vision}
"""
CURRENT = """
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
name: blue
endpoint_name: NAME
type: model
model:
  path: ./model.txt
code_configuration:
  code: code
  scoring_script: score.py
compute: azureml:local
resources:
  instance_count: 1
settings:
  max_concurrency_per_instance: 1
  mini_batch_size: 3
  output_action: append_row
  output_file_name: scores.csv
  retry_settings:
    max_retries: 0
    timeout: 300
  error_threshold: -1
  logging_level: info
"""
LEGACY = """
$schema: https://azuremlschemas.azureedge.net/latest/batchDeployment.schema.json
name: green
endpoint_name: NAME
model:
  path: ./model.txt
code_configuration:
  code: code
  scoring_script: score.py
compute: azureml:local
resources:
  instance_count: 1
max_concurrency_per_instance: 1
mini_batch_size: 2
output_action: append_row
retry_settings:
  max_retries: 0
logging_level: info
"""


def write_files(folder: Path, endpoint: str) -> None:
    """Write what a user has: YAML files, code, a model, data."""
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "score.py").write_text(SCRIPT)
    (folder / "model.txt").write_text("a model")
    for name, text in (("endpoint", ENDPOINT), ("current", CURRENT), ("legacy", LEGACY)):
        (folder / f"{name}.yml").write_text(text.replace("NAME", endpoint))
    for data, words in (
        ("good", ["fine"] * 5),
        ("mixed", ["fine", "raises", "fine", "fine"]),
        ("bad", ["raises", "raises"]),
        ("odd", ["fine", "thrice", "fine", "never"]),
        ("waits", [f"wait {folder}/gate", "fine"]),
    ):
        (folder / data).mkdir()
        for number, word in enumerate(words):
            (folder / data / f"{number}.txt").write_text(word)
