"""The lineage of a number: revision, data, code, parameters of all stages before, versions, machine."""
