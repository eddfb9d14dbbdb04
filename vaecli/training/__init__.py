"""Making a model: the home of torch."""
