"""The datatype labelsz: how many annotation elements of each kind lie on each label, and labels ranked by that.

It follows an annotation instance, in the batch of each change of its elements and of the labels under them.
"""
