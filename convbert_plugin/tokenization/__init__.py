"""Tokenizers and their symbols, read and written; neither torch nor fairseq."""
