"""Text and JSON files, outputs that are whole or not there, records of runs; no torch."""
