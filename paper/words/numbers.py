"""Numbers as a sentence or a table shows them."""


def share(value: float) -> str:
    """A share with two decimals, a true minus sign and no negative zero."""
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def interval(low: float, high: float) -> str:
    """An interval of shares; empty where there is none, as with a single seed."""
    return "" if low != low else f"[{share(low)}, {share(high)}]"
