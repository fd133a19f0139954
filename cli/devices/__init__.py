"""`npuq devices ...`: the chips of the fleet."""
