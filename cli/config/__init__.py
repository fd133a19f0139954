"""`npuq config ...`: the settings."""
