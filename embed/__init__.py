"""Extraction of patch and gene features into Parquet, once; installed as tabular_trainers.embed."""
