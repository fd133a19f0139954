"""What a job does: recipes, datasets, and the five steps. Knows neither the queue nor the database."""
