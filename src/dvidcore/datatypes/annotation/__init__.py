"""The datatype annotation: points with a kind, tags, properties and relationships.

What answers are made of is stored as the JSON that is answered, block by block: the elements of a block, and those of
them that are on a body or have a tag. ``rows`` tells the layout, ``edit`` keeps it in step.
"""
