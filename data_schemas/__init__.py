"""The contracts: one Table Schema (JSON) for each table; installed as tabular_trainers.data_schemas."""
