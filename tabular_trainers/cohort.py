"""The cohort: patients with their clinical table, endpoints and blocks, and what is analysed."""

from dataclasses import dataclass, field

import pandas as pd

from tabular_trainers.cohort_parts import (
    AnalysisSet,
    Block,
    Endpoint,
    Truth,
    flow_table,
    outcome_array,
)
from tabular_trainers.errors import DataError, Problems, SchemaError, count, listing, unknown_name
from tabular_trainers.feature_sets import LATE, blocks_of, is_late

__all__ = ["AnalysisSet", "Block", "Cohort", "Endpoint", "Truth", "load_cohort"]

CLINICAL = "clinical"  # the block that is the baseline, and comes first in every feature set
MISSING_BLOCKS = "missing_blocks"  # the pseudo-block of missing-block indicators


@dataclass(frozen=True)
class Cohort:
    """Patients with their endpoints and blocks; made by `load_cohort`, `demo_cohort` and others.

    Attributes
    ----------
    title : str
    time_zero : str
        When the clock starts; every predictor is known by then.
    patients : pandas.Index
        Ids (text) of the clinical table, sorted.
    blocks : dict of str to Block
    endpoints : dict of str to Endpoint
    missing_blocks : str
        ``"drop"``: analyse patients with every block used; ``"impute"``: keep everybody.
    site, cancer_type : pandas.Series or None
        Text, index ``patient_id``.
    flow : pandas.DataFrame
        Flow of patients up to the cohort (contract ``flow``).
    notes : tuple of str
        What was pooled, collapsed or is worth a warning.
    source_hash : str
        sha256 of the configuration and the tables' bytes.
    endpoint_problems : dict of str to Problems
        What is wrong with the endpoints that could not be read; raised when one is asked for.
    truth : Truth or None
        What a synthetic cohort was drawn from.
    sources : tuple of str
        Public collections that the patients come from, such as TCGA.
    config_file, data : str or None
        The ``cohort.toml`` it was read from, and the folder of its tables where another was given;
        absolute, so that a run can be opened again from anywhere. None when it was made in memory.
    """

    title: str
    time_zero: str
    patients: pd.Index
    blocks: dict[str, Block]
    endpoints: dict[str, Endpoint]
    missing_blocks: str = "drop"
    site: pd.Series | None = None
    cancer_type: pd.Series | None = None
    flow: pd.DataFrame = field(default=None)
    notes: tuple[str, ...] = ()
    source_hash: str = ""
    endpoint_problems: dict[str, Problems] = field(default_factory=dict)
    truth: Truth | None = None
    sources: tuple[str, ...] = ()
    config_file: str | None = None
    data: str | None = None

    def __post_init__(self):
        """Start the flow of patients where none is given."""
        if self.flow is None:
            steps = [("patients in the cohort", 0, len(self.patients))]
            object.__setattr__(self, "flow", flow_table(steps))

    def __repr__(self):
        """Say in one line what the cohort holds."""
        blocks = ", ".join(f"{b.name} ({b.n_columns})" for b in self.blocks.values())
        return (
            f"Cohort {self.title!r}: {count(len(self.patients), 'patient')}; "
            f"endpoints {', '.join(self.endpoint_names) or 'none'}; blocks {blocks}"
        )

    @property
    def endpoint_names(self):
        """Names of all endpoints, readable or not."""
        return (*self.endpoints, *self.endpoint_problems)

    def endpoint(self, name=None):
        """Give one endpoint.

        Parameters
        ----------
        name : str, optional
            May be left out when there is one.

        Raises
        ------
        DataError
            When there is none or no such one, or several and none is named.
        SchemaError, DataError
            When the endpoint could not be read: everything that is wrong with it.
        """
        names = self.endpoint_names
        if not names:
            raise DataError("the cohort has no endpoint; add one as [endpoints.NAME] to its toml.")
        if name is None:
            if len(names) > 1:
                raise DataError(f"the cohort has several endpoints; name one of {listing(names)}.")
            name = names[0]
        if name in self.endpoint_problems:
            self.endpoint_problems[name].raise_if_any()
        if name not in self.endpoints:
            raise DataError(unknown_name("endpoint", name, names))
        return self.endpoints[name]

    def feature_sets(self, names=None):
        """Give the feature sets of a run, each as block names joined by ``+``.

        Parameters
        ----------
        names : iterable of str, optional
            Feature sets such as ``"clinical+pathology"``, or ``"late:clinical+pathology"`` for late
            fusion. ``"clinical"`` is put first where the cohort has that block. Default: clinical;
            each other block alone; clinical + each; all.

        Raises
        ------
        DataError
            When a block is unknown or named twice, or late fusion has fewer than two.
        """
        others = [name for name in self.blocks if name != CLINICAL]
        clinical = [CLINICAL] if CLINICAL in self.blocks else []
        if names is None:
            made = [clinical, *([other] for other in others)]
            if clinical:
                made += [[CLINICAL, other] for other in others]
            made.append(clinical + others)
        else:
            names = [names] if isinstance(names, str) else list(names)
            return tuple(dict.fromkeys([*clinical, *map(self._normalised, names)]))
        return tuple(dict.fromkeys("+".join(blocks) for blocks in made if blocks))

    def _normalised(self, feature_set):
        blocks = self._blocks_of(feature_set)
        if not is_late(feature_set):
            return "+".join(blocks)
        if len(blocks) < 2:
            raise DataError(
                f"feature set {feature_set!r}: late fusion needs two blocks or more, joined by +; "
                f"the cohort's blocks: {listing(self.blocks)}."
            )
        return LATE + "+".join(blocks)

    def _blocks_of(self, feature_set):
        blocks = blocks_of(feature_set)
        for name in blocks:
            if name not in self.blocks:
                raise DataError(unknown_name("block", name, list(self.blocks)))
        if len(set(blocks)) < len(blocks):
            raise DataError(f"feature set {feature_set!r} names a block twice.")
        return sorted(blocks, key=lambda name: (name != CLINICAL, list(self.blocks).index(name)))

    def analysis_set(self, endpoint=None, feature_sets=None):
        """Put together the patients and columns of one analysis.

        Parameters
        ----------
        endpoint : str, optional
        feature_sets : iterable of str, optional
            As in `feature_sets`.

        Returns
        -------
        AnalysisSet

        Raises
        ------
        DataError
            When the endpoint or a block is unknown, or no patient has all that is asked for.
        """
        endpoint = self.endpoint(endpoint)
        names = self.feature_sets(feature_sets)
        if not names:
            raise DataError("the cohort has no block; add one as [blocks.NAME] to its toml.")
        used = self._blocks_of("+".join({block for name in names for block in blocks_of(name)}))
        kept, steps = self._kept(endpoint, used)
        columns, features, categorical, notes = {}, [], [], []
        for name in used:
            block = self.blocks[name]
            table = block.table.reindex(self.patients)
            table.columns = [f"{name}.{column}" for column in table.columns]
            own = [column for column in table.columns if column in endpoint.own_columns]
            if own:
                notes.append(
                    f"endpoint {endpoint.name}: {listing(own, 20)} left out of the predictors "
                    "(the label itself, or named under leave_out)."
                )
            table = table.drop(columns=own)
            if table.shape[1] == 0:
                raise SchemaError(
                    f"block {name}: every column is left out for endpoint {endpoint.name}; "
                    "name feature sets without this block."
                )
            columns[name] = tuple(table.columns)
            categorical += [f"{name}.{c}" for c in block.categorical if f"{name}.{c}" not in own]
            features.append(table)
        indicators = ()
        if self.missing_blocks == "impute":
            table = self._indicators(used, kept)
            indicators = tuple(table.columns)
            features.append(table)
        X = pd.concat(features, axis=1)
        dropped = self.patients.difference(kept)
        return AnalysisSet(
            endpoint=endpoint,
            patient_id=kept,
            X=X.loc[kept],
            categorical=tuple(categorical),
            reduce={n: dict(self.blocks[n].reduce) for n in used if self.blocks[n].reduce},
            y=outcome_array(endpoint, kept),
            site=None if self.site is None else self.site.loc[kept].to_numpy(object),
            feature_sets={
                name: sum((columns[b] for b in blocks_of(name)), ()) + indicators for name in names
            },
            baseline=CLINICAL if CLINICAL in names else None,
            full=max(reversed(names), key=lambda name: (len(blocks_of(name)), not is_late(name))),
            flow=flow_table(steps),
            dropped=X.loc[dropped] if len(dropped) else None,
            notes=tuple(notes),
            cancer_type=(
                None if self.cancer_type is None else self.cancer_type.loc[kept].to_numpy(object)
            ),
        )

    def features(self, feature_set):
        """Put together the columns of one feature set for patients to be scored.

        Parameters
        ----------
        feature_set : str
            Block names joined by ``+``; after ``late:`` for late fusion.

        Returns
        -------
        pandas.DataFrame
            Columns ``block.column`` of the patients with every block; with ``missing_blocks =
            "impute"`` of all patients, and an indicator ``missing_blocks.<block>`` for each block
            of the cohort: a model of some blocks may know who lacks another.

        Raises
        ------
        DataError
            When a block is unknown, or no patient has them all.
        """
        used = self._blocks_of(feature_set)
        tables = {name: self.blocks[name].table for name in used}
        patients = self.patients
        if self.missing_blocks == "drop":
            for table in tables.values():
                patients = patients.intersection(table.index)
        if len(patients) == 0:
            raise DataError(f"no patient has every one of the blocks {listing(used)}.")
        X = pd.concat(
            [table.reindex(patients).add_prefix(f"{name}.") for name, table in tables.items()],
            axis=1,
        )
        if self.missing_blocks == "impute":
            for name, block in self.blocks.items():
                lacks = ~patients.isin(block.table.index)
                X[f"{MISSING_BLOCKS}.{name}"] = lacks.astype(float)
        return X.rename_axis("patient_id")

    def _kept(self, endpoint, used):
        """Find the analysed patients; also the steps that led to them."""
        steps = [(row.description, row.n_dropped, row.n_patients) for row in self.flow.itertuples()]
        left = len(self.patients)
        for description, number in endpoint.dropped:
            left -= number
            steps.append((description, number, left))
        kept = endpoint.table.index.sort_values()
        if self.missing_blocks == "drop":
            for name in used:
                both = kept.intersection(self.blocks[name].table.index)
                if len(both) < len(kept):
                    steps.append((f"without block {name}", len(kept) - len(both), len(both)))
                kept = both
        if len(kept) == 0:
            raise DataError(
                f"no patient has endpoint {endpoint.name} and every one of the blocks "
                f"{listing(used)}; compare their patient ids, or leave a block out."
            )
        return kept.rename("patient_id"), steps

    def _indicators(self, used, kept):
        missing = {}
        for name in used:
            lacks = ~self.patients.isin(self.blocks[name].table.index)
            if lacks[self.patients.isin(kept)].any():
                missing[f"{MISSING_BLOCKS}.{name}"] = lacks.astype(float)
        return pd.DataFrame(missing, index=self.patients)


def load_cohort(config, data=None, endpoint=None):
    """Read a cohort: its ``cohort.toml`` and the tables that it names.

    Parameters
    ----------
    config : path
        The ``cohort.toml``.
    data : path or URI, optional
        Folder in which relative tables are looked up; default: the folder of ``config``.
    endpoint : str, optional
        An endpoint that must be readable. What is wrong with other endpoints is kept in
        ``endpoint_problems`` and raised when they are asked for.

    Returns
    -------
    Cohort

    Raises
    ------
    SchemaError, DataError
        Everything that is wrong, in one message.
    """
    from tabular_trainers.cohort_loading import load

    return load(config, data, endpoint)
