"""What fairseq's trainer needs around a run: where it begins, what it survives, how it ends."""
