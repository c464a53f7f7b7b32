"""The sets of hyper-parameters to try: settled by seed and space before any of them is fitted."""

import math

import numpy as np


def list_trials(space, facts, defaults, n_trials, seed):
    """List sets of hyper-parameters: the defaults, then a scrambled Sobol sequence.

    The sequence covers a space more evenly than random draws. It depends on the seed and the space
    alone, never on what a trial gave, so that any number of workers finds the same trials, and a
    shorter list is the beginning of a longer one.

    Parameters
    ----------
    space : callable
        ``space(trial, facts)`` asks the trial for its values (``suggest_int``, ``suggest_float``,
        ``suggest_categorical``), always the same ones in the same order, and returns a dict.
    facts : DataFacts
    defaults : dict
        Values of the first trial, by the names that the space asks for.
    n_trials : int
    seed : int

    Returns
    -------
    list of dict
        As the space returned them; a space that asks for nothing gives one.

    References
    ----------
    Bergstra, J. and Bengio, Y. (2012). Random search for hyper-parameter optimization. Journal of
    Machine Learning Research 13.
    Owen, A. (1998). Scrambling Sobol' and Niederreiter-Xing points. Journal of Complexity 14(4).
    """
    asked = Asked(defaults)
    first = space(asked, facts)
    if not asked.names or n_trials <= 1:
        return [first]
    points = _sobol(len(asked.names), n_trials - 1, seed)
    return [first, *(space(Point(point), facts) for point in points)]


def _sobol(n_dimensions, n_points, seed):
    from scipy.stats import qmc

    power = max(math.ceil(math.log2(n_points)), 0)  # the sequence is balanced at powers of two
    return qmc.Sobol(n_dimensions, rng=seed).random_base2(power)[:n_points]


class Asked:
    """A trial that notes what a space asks for, and answers with defaults.

    Parameters
    ----------
    defaults : dict, optional
        A name that is not there gets the least value, or the first choice.
    """

    def __init__(self, defaults=None):
        self.defaults, self.names = defaults or {}, []

    def suggest_int(self, name, low, high, log=False):
        """Give the default."""
        return self._answer(name, low)

    def suggest_float(self, name, low, high, log=False):
        """Give the default."""
        return self._answer(name, low)

    def suggest_categorical(self, name, choices):
        """Give the default."""
        return self._answer(name, choices[0])

    def _answer(self, name, otherwise):
        self.names.append(name)
        return self.defaults.get(name, otherwise)


class Point:
    """A trial that turns the coordinates of a point, one after the other, into values.

    Parameters
    ----------
    coordinates : array of shape (n_dimensions,)
        Each from 0 to below 1.
    """

    def __init__(self, coordinates):
        self._rest = iter(np.asarray(coordinates, dtype=np.float64).tolist())

    def suggest_float(self, name, low, high, log=False):
        """Give a value from ``low`` to ``high``, evenly spread, or evenly on the log scale."""
        at = next(self._rest)
        if log:
            value = math.exp(math.log(low) + at * (math.log(high) - math.log(low)))
        else:
            value = low + at * (high - low)
        return min(max(value, low), high)

    def suggest_int(self, name, low, high, log=False):
        """Give a whole number from ``low`` to ``high``, both included."""
        if log:  # each number has the stretch of the log scale that rounds to it
            value = round(
                Point([next(self._rest)]).suggest_float(name, low - 0.5, high + 0.5, True)
            )
        else:
            value = low + math.floor(next(self._rest) * (high - low + 1))
        return min(max(int(value), low), high)

    def suggest_categorical(self, name, choices):
        """Give one of the choices, each as likely as the next."""
        return choices[self.suggest_int(name, 0, len(choices) - 1)]
