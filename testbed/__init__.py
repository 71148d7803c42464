"""A small real world to try Vacuo against: an HTCondor pool, an XRootD and HTTP origin, jobs.

Used by ``make demo``, the end-to-end and conformance tests, and the benchmarks.  Nothing here is
part of the product.
"""
