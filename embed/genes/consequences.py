"""Consequences of variants: which is worse, and which count as a mutation."""

# Terms of the Sequence Ontology from the most to the least severe, as Ensembl orders them
# (https://www.ensembl.org/info/genome/variation/prediction/predicted_data.html).
SEVERITY = (
    "transcript_ablation",
    "splice_acceptor_variant",
    "splice_donor_variant",
    "stop_gained",
    "frameshift_variant",
    "stop_lost",
    "start_lost",
    "transcript_amplification",
    "feature_elongation",
    "feature_truncation",
    "inframe_insertion",
    "conservative_inframe_insertion",
    "disruptive_inframe_insertion",
    "inframe_deletion",
    "conservative_inframe_deletion",
    "disruptive_inframe_deletion",
    "missense_variant",
    "protein_altering_variant",
    "splice_donor_5th_base_variant",
    "splice_region_variant",
    "splice_donor_region_variant",
    "splice_polypyrimidine_tract_variant",
    "incomplete_terminal_codon_variant",
    "start_retained_variant",
    "stop_retained_variant",
    "synonymous_variant",
    "coding_sequence_variant",
    "mature_miRNA_variant",
    "5_prime_UTR_variant",
    "3_prime_UTR_variant",
    "non_coding_transcript_exon_variant",
    "intron_variant",
    "NMD_transcript_variant",
    "non_coding_transcript_variant",
    "coding_transcript_variant",
    "upstream_gene_variant",
    "downstream_gene_variant",
    "intergenic_variant",
)
# Those that change the protein: Ensembl's impact HIGH and MODERATE.
ALTERING = frozenset(SEVERITY[: SEVERITY.index("protein_altering_variant") + 1])
# The classes of a MAF that change the protein (maftools counts the same nine).
ALTERING_IN_MAF = (
    "Frame_Shift_Del",
    "Frame_Shift_Ins",
    "In_Frame_Del",
    "In_Frame_Ins",
    "Missense_Mutation",
    "Nonsense_Mutation",
    "Nonstop_Mutation",
    "Splice_Site",
    "Translation_Start_Site",
)
# Every other class that the MAF specification of the GDC or its forerunners know.
OTHER_IN_MAF = (
    *("3'Flank", "3'UTR", "5'Flank", "5'UTR", "IGR", "Intron", "lincRNA", "RNA", "Silent"),
    *("De_novo_Start_InFrame", "De_novo_Start_OutOfFrame", "Splice_Region", "Targeted_Region"),
    *("Start_Codon_Del", "Start_Codon_Ins", "Start_Codon_SNP", "Stop_Codon_Del", "Stop_Codon_Ins"),
    "Unknown",
)
_RANK = {term: rank for rank, term in enumerate(SEVERITY)}


def most_severe(terms):
    """Choose the most severe of some consequences; unknown ones come last.

    Examples
    --------
    >>> most_severe(["intron_variant", "splice_donor_variant"])
    'splice_donor_variant'
    """
    return min(terms, key=lambda term: (_RANK.get(term, len(SEVERITY)), term))
