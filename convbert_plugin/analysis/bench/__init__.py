"""Speed and memory beside other implementations, measured in turn in one run."""
