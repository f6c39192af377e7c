"""Parts of sentences for people, shared by findings, errors and pages."""


def count_of(number: int, noun: str) -> str:
    """A number with its noun, in the right form.

    >>> count_of(1, "subject"), count_of(1200, "class")
    ('1 subject', '1,200 classes')
    """
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
