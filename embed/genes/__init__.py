"""Extraction of gene features, once: variants -> haplotypes -> one row a patient and gene.

Nothing here imports torch, transformers, pysam or pyfaidx before it is used.
"""
