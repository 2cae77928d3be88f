"""A new cluster out of what a disaster has left: docs/recovery.md says what may be lost."""
