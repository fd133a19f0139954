"""`npuq submit ...`: one goal at a time."""
