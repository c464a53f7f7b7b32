"""Times for people."""


def in_words(seconds):
    """Put a time in words.

    Examples
    --------
    >>> in_words(50), in_words(500), in_words(50_000), in_words(500_000)
    ('50 s', '8 min', '13.9 h', '5.8 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
