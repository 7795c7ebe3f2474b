"""What proofreaders do: merges, cleaves, renumbering, splits, and the records of them."""
