"""Pages that show runs: live ones in the dashboard of their Dask cluster, those of a store by ``daskflow ui``."""
