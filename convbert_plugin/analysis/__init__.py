"""What is made of trained models and of runs: predictions and reports."""
