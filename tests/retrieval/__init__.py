"""What retrieval is worth: questions of patients, and the passages that answer them."""
