"""Numbers and lists as a sentence or a table shows them."""

from collections.abc import Iterable

#: What stands where none of a page's headline findings was judged, as with parameters of a reader's own.
UNJUDGED = "With these parameters none of the claims that answer it was judged; what was measured stands below."


def share(value: float) -> str:
    """A share with two decimals, a true minus sign and no negative zero."""
    return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def interval(low: float, high: float) -> str:
    """An interval of shares; empty where there is none, as with a single seed, and open at an end without bound."""
    return "" if low != low else f"[{share(low)}, {share(high)}]".replace("inf", "∞")


def cosine(value: float) -> str:
    """The cosine of a mean gradient in words, also where the mean cannot be told from zero."""
    known = f"a cosine of {share(value)} with the clean one"
    return known if value == value else "a mean that cannot be told from zero, and so no direction"


class Shown(float):
    """A number as the reader sees it: never "-0.0", with a minus that is one, a space before a per cent,
    and "–" where nothing was measured."""

    def __format__(self, spec: str) -> str:
        if self != self:
            return "–"
        shown = super().__format__(spec).replace("%", " %")
        negative = shown.startswith("-") and any(digit in shown for digit in "123456789")
        return f"−{shown[1:]}" if negative else shown.removeprefix("-")


def listed(names: Iterable[str]) -> str:
    """A list in words: "a, b and c"; "none" where it is empty."""
    every = list(names)
    return " and ".join([", ".join(every[:-1]), every[-1]]) if len(every) > 1 else "".join(every) or "none"


def no_evidence(what: str) -> str:
    """What stands in place of the evidence's numbers where it has none of a setting."""
    return f"The evidence has nothing for this setting: {what}."
