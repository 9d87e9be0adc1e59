"""The forms in which a result can be printed (`-o`)."""

from enum import StrEnum


class OutputForm(StrEnum):
    """Values of `-o`; without it people get text."""

    JSON = "json"
    YAML = "yaml"
    TABLE = "table"
    TSV = "tsv"
    NONE = "none"
