"""The stages that `fit` runs, in the order of `pipeline`: each reads and writes the run folder."""
