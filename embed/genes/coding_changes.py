"""What a change of a gene's coding exons does to its protein."""

from .genbank import reverse_complement

# The standard code (NCBI's table 1), bases in the order TCAG.
_BASES = "TCAG"
_AMINO_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"


def translate(coding):
    """Translate a coding sequence; ``*`` is a stop, X a codon with N, a remainder is left out.

    Examples
    --------
    >>> translate("ATGTGGNAATAGC")
    'MWX*'
    """
    codons = (coding[i : i + 3] for i in range(0, len(coding) - len(coding) % 3, 3))
    return "".join(_amino_acid(codon) for codon in codons)


def _amino_acid(codon):
    if "N" in codon:
        return "X"
    a, b, c = (_BASES.index(base) for base in codon)
    return _AMINO_ACIDS[16 * a + 4 * b + c]


class CodingSequence:
    """The coding exons of a gene, and where their bases lie.

    Parameters
    ----------
    gene : Gene
        With coding exons.
    plus : str
        The gene's bases on the plus strand, from ``gene.start`` to ``gene.end``.
    """

    def __init__(self, gene, plus):
        self.gene = gene
        places = [place for start, end in gene.exons for place in range(start, end)]
        bases = "".join(plus[start - gene.start : end - gene.start] for start, end in gene.exons)
        if gene.strand == "-":
            places, bases = places[::-1], reverse_complement(bases)
        self.bases = bases
        self.place_of = {place: number for number, place in enumerate(places)}

    def consequence(self, start, ref, alt):
        """Name what a substitution, insertion or deletion on the plus strand does.

        Parameters
        ----------
        start : int
            Zero-based position of the first base of ``ref`` on the contig.
        ref, alt : str
            As in a VCF; an indel has its anchor base, and lies within one exon or none.

        Returns
        -------
        str
            A term of the Sequence Ontology: ``intron_variant`` outside the coding exons.
        """
        changed = range(start, start + 1) if len(ref) == len(alt) == 1 else (
            range(start + 1, start + max(len(ref), 2))
        )  # fmt: skip
        if not all(place in self.place_of for place in changed):
            return "intron_variant"
        if len(ref) != len(alt):
            if (len(ref) - len(alt)) % 3:
                return "frameshift_variant"
            return "inframe_deletion" if len(ref) > len(alt) else "inframe_insertion"
        number = self.place_of[start]
        base = alt if self.gene.strand == "+" else reverse_complement(alt)
        first = number - number % 3
        codon = self.bases[first : first + 3]
        before = translate(codon)
        after = translate(codon[: number % 3] + base + codon[number % 3 + 1 :])
        if before == after:
            return "synonymous_variant"
        if after == "*":
            return "stop_gained"
        return "stop_lost" if before == "*" else "missense_variant"
