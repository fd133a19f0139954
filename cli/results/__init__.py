"""`npuq results ...`: the history."""
