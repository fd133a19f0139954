"""`npuq runs ...`: what people submitted."""
