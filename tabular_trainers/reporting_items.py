"""The items of the TRIPOD+AI checklist, each in our own words."""

from typing import NamedTuple


class Item(NamedTuple):
    """One item: its number, section and topic in the guideline, and what it asks for."""

    item: str
    section: str
    topic: str
    description: str


_SECTIONS = {
    "Title and abstract": (
        ("1", "Title", "Name the study as model development or evaluation; whom and what for"),
        ("2", "Abstract", "Follow the TRIPOD+AI list for abstracts"),
    ),
    "Introduction": (
        ("3a", "Background", "Clinical context, reason for the model, models that exist"),
        ("3b", "Background", "Target population, intended use in care, intended users"),
        ("3c", "Background", "Known inequalities in health between groups of people"),
        ("4", "Objectives", "Aims: development, evaluation, or both"),
    ),
    "Methods": (
        ("5a", "Data", "Sources of the data, why these, how representative"),
        ("5b", "Data", "Dates of recruitment and of the end of follow-up"),
        ("6a", "Participants", "Setting, number and place of the centres"),
        ("6b", "Participants", "Who was eligible"),
        ("6c", "Participants", "Treatments received and how they were handled"),
        ("7", "Data preparation", "Preprocessing and quality checks, alike in all groups or not"),
        ("8a", "Outcome", "Definition, horizon, when and how assessed, why this outcome"),
        ("8b", "Outcome", "Who assessed it, where that needs judgement"),
        ("8c", "Outcome", "Blinding of its assessment"),
        ("9a", "Predictors", "How candidates were chosen before modelling"),
        ("9b", "Predictors", "Definitions, when and how measured, blinding"),
        ("9c", "Predictors", "Who assessed them, where that needs judgement"),
        ("10", "Sample size", "How the size came about, and whether it is enough"),
        ("11", "Missing data", "How missing values were handled, who was left out and why"),
        ("12a", "Analysis", "How patients were split between development and evaluation"),
        ("12b", "Analysis", "Form, scaling and transformation of predictors"),
        ("12c", "Analysis", "Models, why these, how built and tuned, internal validation"),
        ("12d", "Analysis", "How differences between hospitals or countries were looked at"),
        ("12e", "Analysis", "Measures and figures of performance, how models were compared"),
        ("12f", "Analysis", "Updating of the model after evaluation"),
        ("12g", "Analysis", "How predictions were calculated"),
        ("13", "Class imbalance", "Methods against imbalance, and recalibration after them"),
        ("14", "Fairness", "What was done for fairness, and why"),
        ("15", "Model output", "What the model gives; thresholds and the reason for them"),
        ("16", "Training and evaluation", "Differences between their patients and definitions"),
        ("17", "Ethics", "Approval, and consent or its waiver"),
    ),
    "Open science": (
        ("18a", "Funding", "Sources, and the funders' part in the study"),
        ("18b", "Conflicts of interest", "Those of all authors"),
        ("18c", "Protocol", "Where it can be read, or that there is none"),
        ("18d", "Registration", "Register and number, or that there is none"),
        ("18e", "Data sharing", "Whether and how the data can be had"),
        ("18f", "Code sharing", "Whether and how the code can be had"),
    ),
    "Patients and public": (
        ("19", "Involvement", "Their part in the study, or that there is none"),
    ),
    "Results": (
        ("20a", "Participants", "Flow of patients, with and without the outcome, follow-up"),
        ("20b", "Participants", "Characteristics, dates, treatments, missing values"),
        ("20c", "Participants", "Evaluation patients compared with development patients"),
        ("21", "Model development", "Patients and events in each analysis"),
        ("22", "Model specification", "The full model, so that others can predict with it"),
        ("23a", "Performance", "Estimates with intervals, also in key subgroups"),
        ("23b", "Performance", "Differences between hospitals or countries, where looked at"),
        ("24", "Model updating", "Results of any updating"),
    ),
    "Discussion": (
        ("25", "Interpretation", "What the results mean, fairness, earlier studies"),
        ("26", "Limitations", "Of patients, size, overfitting, missing data; their effect"),
        ("27a", "Use", "How poor or missing input is to be noticed and handled"),
        ("27b", "Use", "What users have to do, and what they must know"),
        ("27c", "Use", "Next steps of research"),
    ),
}
ITEMS = tuple(
    Item(number, section, topic, description)
    for section, rows in _SECTIONS.items()
    for number, topic, description in rows
)
