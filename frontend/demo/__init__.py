"""The demo: a product in a temporary directory, under a simulated flow, checked at the end."""
