"""Orders by fair share: who is next depends on what everybody holds, and has held."""
