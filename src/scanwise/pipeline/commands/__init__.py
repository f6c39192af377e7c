"""Every command but `fit`: on finished runs, and on scans and logits from elsewhere."""
