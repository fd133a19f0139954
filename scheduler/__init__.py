"""What decides: plans, shards, placement and retry are pure; one loop reads, calls them and writes."""
