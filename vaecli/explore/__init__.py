"""A model's latent space as a page for the browser: what it shows, the one HTML file, and a server for it."""
