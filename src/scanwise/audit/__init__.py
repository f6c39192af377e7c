"""Can these scans be trusted: what a cohort gives away before anything is trained, and what that costs in points."""
