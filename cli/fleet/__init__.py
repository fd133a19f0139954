"""A fleet on this machine: the processes that `npuq up` starts, and `npuq down` ends."""
