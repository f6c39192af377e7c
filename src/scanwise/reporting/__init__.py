"""Reports of a run: figures, CSV tables and one HTML page, all rebuilt from the run folder alone."""
