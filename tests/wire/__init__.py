"""What travels and what rests, as bytes."""
