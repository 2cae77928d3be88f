"""What `trioraft bench` measures: a cluster of real processes on one machine, under load."""
