"""The contracts, one Table Schema a table; installed as tabular_trainers.data_schemas."""
