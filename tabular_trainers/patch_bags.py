"""The column that stands for the patches of a patient: its text says which store, and whose.

A patient has any number of patches, and what becomes of them is learned inside a training part; so
a table of patients holds, in place of numbers, where its patches are. As text such a column goes
wherever the others go: to other processes, and to patients of another cohort and its store.
"""

import json

COLUMN = "patches"  # of a block whose table is a store


def bag_of(store, patient_id):
    """Write the text that stands for the patches of a patient in a store.

    Parameters
    ----------
    store : path
    patient_id : str

    Examples
    --------
    >>> bag_of("/data/store", "P1")
    '["/data/store", "P1"]'
    """
    return json.dumps([str(store), str(patient_id)])


def place_of(bag):
    """Read such a text: the store's folder, and the patient.

    Examples
    --------
    >>> place_of('["/data/store", "P1"]')
    ('/data/store', 'P1')
    """
    store, patient_id = json.loads(bag)
    return store, patient_id


def clusters_asked(name, reduce):
    """Give the number of clusters asked for where a column stands for patches, else None.

    Parameters
    ----------
    name : str
        ``block.column``.
    reduce : dict or None
        ``{block: {"clusters": k}}`` of a block of patches.

    Examples
    --------
    >>> clusters_asked("tissue.patches", {"tissue": {"clusters": 20}})
    20
    >>> clusters_asked("clinical.age", {"tissue": {"clusters": 20}})
    """
    block, _, column = name.partition(".")
    return ((reduce or {}).get(block) or {}).get("clusters") if column == COLUMN else None
