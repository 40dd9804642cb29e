"""Words of the pages: what a notebook shows that is neither a table nor a figure."""
