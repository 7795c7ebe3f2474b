"""The datatypes: one module each (a package where it outgrows one), declared on ``base`` and found by ``registry``."""
