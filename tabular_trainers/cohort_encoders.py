"""What the encoder behind a block was pretrained on, and whether that overlaps with the cohort."""

import json
import re

from tabular_trainers.tables import POOLING

UNKNOWN = "unknown"
_BARCODE = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Z0-9])")
_ID_WIDTH = 60  # of an encoder's id in a sentence; run.json has all of it


def facts_of_tables(metadata, declared):
    """Put together what the tables of a block and the ``cohort.toml`` say of its encoder.

    Parameters
    ----------
    metadata : list of dict of str to str
        Metadata of each table, with ``encoder_id`` and ``pretrained_on`` (a list in JSON) where it
        names them.
    declared : list of str or None
        ``pretrained_on`` of the block in the ``cohort.toml``.

    Returns
    -------
    encoder_id : str or None
    pretrained_on : tuple of str or None
        None: nobody says; (): not trained, such as measured features.

    Examples
    --------
    >>> facts_of_tables([{"encoder_id": "hipt-1", "pretrained_on": '["TCGA"]'}], None)
    ('hipt-1', ('TCGA',))
    >>> facts_of_tables([{}], ["CPTAC"])
    (None, ('CPTAC',))
    """
    encoders = dict.fromkeys(m["encoder_id"] for m in metadata if m.get("encoder_id"))
    named = [_names(m["pretrained_on"]) for m in metadata if m.get("pretrained_on")]
    named += [declared] if declared is not None else []
    found = dict.fromkeys(name for names in named for name in names)
    known = tuple(name for name in found if name != UNKNOWN)
    pretrained_on = (known or tuple(found)) if named else ((UNKNOWN,) if encoders else None)
    return ", ".join(encoders) or None, pretrained_on


def pooling_of_tables(metadata):
    """Tell how patches became the rows of a block, where one of its tables says so.

    Examples
    --------
    >>> pooling_of_tables([{}, {"how": "mean", "level": "patch", "by": "slide"}])
    {'how': 'mean', 'level': 'patch', 'by': 'slide'}
    """
    found = [m for m in metadata if all(key in m for key in POOLING)]
    return {key: found[0][key] for key in POOLING} if len(found) == 1 else None


def _names(text):
    """Read a list in JSON; any other text is one name."""
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        return [text]
    return [str(name) for name in names] if isinstance(names, list) else [str(names)]


def sources_of(declared, patients):
    """Name the public collections that patients come from: those declared, and TCGA by its ids.

    Examples
    --------
    >>> sources_of([], ["TCGA-02-0001", "TCGA-02-0003"]), sources_of(["CPTAC"], ["P1"])
    (('TCGA',), ('CPTAC',))
    """
    barcodes = any(_BARCODE.match(str(patient)) for patient in patients)
    return tuple(dict.fromkeys([*declared, *(["TCGA"] if barcodes else [])]))


def overlap(pretrained_on, sources):
    """Find the collections of a cohort that are among what an encoder was pretrained on.

    Names are compared by their words, so that TCGA is found in TCGA-BRCA and the other way round.

    Examples
    --------
    >>> overlap(("TCGA-BRCA", "GTEx"), ("TCGA",)), overlap(("TCGA",), ("TCGA-KIRC",))
    (['TCGA'], ['TCGA-KIRC'])
    >>> overlap(("TCGA-BRCA",), ("TCGA-KIRC",)), overlap(("Mass-100K (MGH, GTEx)",), ("GTEx",))
    ([], ['GTEx'])
    """
    found = []
    for source in sources:
        own = _words(source)
        for name in pretrained_on:
            other = _words(name)
            within = any(other[i : i + len(own)] == own for i in range(len(other)))
            if own and other and (within or own[: len(other)] == other):
                found.append(source)
                break
    return found


def _words(name):
    return re.findall(r"[a-z0-9]+", name.lower())


def encoder_facts(block, sources):
    """Collect what is said of a block's encoder, as plain JSON.

    Parameters
    ----------
    block : Block
    sources : sequence of str
        Collections that the cohort comes from.

    Returns
    -------
    dict
        ``encoder_id``, ``pretrained_on`` and ``pretraining_overlap``; the last two are None where
        nothing is known of an encoder.
    """
    trained = block.pretrained_on
    return {
        "encoder_id": block.encoder_id,
        "pretrained_on": None if trained is None else list(trained),
        "pretraining_overlap": None if trained is None else overlap(trained, sources),
    }


def encoder_sentence(name, facts):
    """Say what a block's encoder was pretrained on; None where there is nothing to say.

    Parameters
    ----------
    name : str
        Of the block.
    facts : dict
        As `encoder_facts` gives them.

    Examples
    --------
    >>> facts = {"encoder_id": "hipt-1", "pretrained_on": ["TCGA"], "pretraining_overlap": []}
    >>> encoder_sentence("pathology", facts)[:63]
    'The encoder of block pathology (hipt-1) was pretrained on TCGA;'
    """
    trained = facts.get("pretrained_on")
    if not trained:
        return None
    encoder = facts.get("encoder_id")
    told = "" if encoder in (None, UNKNOWN) else f" ({_short(encoder)})"
    who = f"The encoder of block {name}{told}"
    if facts["pretraining_overlap"]:
        return (
            f"{who} was pretrained on {_listed(facts['pretraining_overlap'])}, from which this "
            "cohort comes: it has seen these slides, though not their outcomes."
        )
    if trained == [UNKNOWN]:
        return f"{who}: what it was pretrained on is unknown, so it may have seen this cohort."
    return f"{who} was pretrained on {_listed(trained)}; no overlap with this cohort is known."


def stands_against(facts):
    """Say whether the encoder may have seen the cohort: then the report marks every measure."""
    return bool(facts.get("pretraining_overlap")) or facts.get("pretrained_on") == [UNKNOWN]


def _short(encoder):
    return encoder if len(encoder) <= _ID_WIDTH else f"{encoder[: _ID_WIDTH - 1]}…"


def _listed(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
