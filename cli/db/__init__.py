"""`npuq db ...`: the life of the schema."""
