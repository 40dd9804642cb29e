"""The words of the book: what its pages say, apart from what is computed."""
