"""neuronjson: one JSON annotation per body, with queries over all of them."""
