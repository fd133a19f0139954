"""Tables and summaries of results, from the database's values only."""
