"""What runs next: the frontier decides, regions become Dask graphs, the run loop feeds one with the other."""
