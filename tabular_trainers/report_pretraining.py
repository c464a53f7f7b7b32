"""What the report says, beside every measure, of encoders that may have seen the cohort."""

from tabular_trainers.cohort_encoders import encoder_sentence, stands_against
from tabular_trainers.feature_sets import blocks_of

MARK = "‡"


def mark(run, feature_set):
    """Give the mark beside a feature set whose encoder may have seen the cohort; else nothing."""
    return f" {MARK}" if told(run, [feature_set]) else ""


def told(run, feature_sets):
    """Say which encoders behind some feature sets may have seen the cohort: a list of sentences."""
    used = {block for name in feature_sets for block in blocks_of(name)}
    return [
        encoder_sentence(name, facts)
        for name, facts in (run.get("blocks") or {}).items()
        if name in used and stands_against(facts)
    ]


def notes(run, feature_sets):
    """Explain the mark below a table."""
    return [f"{MARK} {sentence}" for sentence in told(run, feature_sets)]


def caption(run):
    """Say the same below a figure of every feature set."""
    return "".join(f" {sentence}" for sentence in told(run, run["feature_sets"]))


def of_blocks(run):
    """Say of every encoder what it was pretrained on."""
    said = (encoder_sentence(name, facts) for name, facts in (run.get("blocks") or {}).items())
    return [sentence for sentence in said if sentence]
