"""`npuq datasets ...`: the datasets that jobs may use."""
