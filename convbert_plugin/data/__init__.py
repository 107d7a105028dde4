"""Text to tensors: vocabularies, segments, masking, features."""
