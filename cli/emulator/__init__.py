"""`npuq emulator ...`: cards that are not there."""
