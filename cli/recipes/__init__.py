"""`npuq recipes ...`: the models that npuq knows."""
