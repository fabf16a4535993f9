"""One folder for each `evaluate` module, in the layout that `evaluate.load` expects."""
