"""From what a person asks for to a submitted run: read, validated, uploaded, sent."""
