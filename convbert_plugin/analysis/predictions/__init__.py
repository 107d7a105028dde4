"""What fine-tuned models answer, in the files that are wanted of them."""
