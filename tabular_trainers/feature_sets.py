"""How a feature set is written: ``clinical+pathology``, and ``late:clinical+pathology``."""

LATE = "late:"


def is_late(feature_set):
    """Tell whether the blocks of a feature set are fused late: one model a block.

    Examples
    --------
    >>> is_late("late:clinical+pathology"), is_late("clinical+pathology")
    (True, False)
    """
    return feature_set.startswith(LATE)


def blocks_of(feature_set):
    """Name the blocks of a feature set.

    Examples
    --------
    >>> blocks_of("clinical+pathology"), blocks_of("late: clinical + pathology")
    (['clinical', 'pathology'], ['clinical', 'pathology'])
    """
    return [name.strip() for name in feature_set.removeprefix(LATE).split("+")]


def file_name(name):
    """Turn a name that holds a feature set into one that every file system takes.

    Examples
    --------
    >>> file_name("late:clinical+pathology")
    'late-clinical+pathology'
    """
    return name.replace(":", "-")
