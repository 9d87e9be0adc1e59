"""The ledger: what exists, which jobs there are, and who may write to them now."""
