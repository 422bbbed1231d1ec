"""What made a number: revision, data, code, parameters of all stages before, versions, machine."""
