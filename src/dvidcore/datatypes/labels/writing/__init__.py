"""How labels are changed: transactions, voxels and their index, coarser scales, counters and new ids."""
