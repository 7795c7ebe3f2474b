"""What is asked of labels: voxels, slices, block streams, points, sparse volumes, lists, indices."""
