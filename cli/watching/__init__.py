"""Following a run: what there is to see, how long it may take, and how it is drawn."""
