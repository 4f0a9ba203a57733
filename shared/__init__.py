"""What api, workers and training share; it imports none of them."""
