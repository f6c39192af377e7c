"""What the other commands do with a finished run, or with scans and logits from elsewhere."""
