"""One module per experiment: checked parameters, then a table, then findings."""
