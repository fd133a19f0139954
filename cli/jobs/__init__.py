"""`npuq jobs ...`: the steps of runs."""
