"""The networks that learn, and the weights they start from."""
