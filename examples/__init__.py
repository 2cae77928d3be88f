"""Programs that show what the library is for."""
