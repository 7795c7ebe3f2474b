"""A tour of dvidcore from Python, on generated data and without a server.

    python examples/tour.py            # in a temporary folder
    python examples/tour.py ./store    # in a store that stays, to be served by: dvidcore serve --data ./store

The cells (``# %%``) can be run one by one in an editor that knows them.
"""

# %% A store, a repo, and its first version
import sys
import tempfile

import numpy as np

import dvidcore
from dvidcore import labels as kernels
from dvidcore import samples

folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
db = dvidcore.open(folder, user="tour")
repo = db.new_repo("tour", "a volume of generated tissue")
first = repo["master"]
print(db, repo, first, sep="\n")

# %% Volumes: everything is in Z, Y, X order
sample = samples.generate(128, seed=1)
gray = first.create("grayscale", "uint8blk", block_size=(64, 64, 64), voxel_size=sample.voxel_size[::-1])
seg = first.create("segmentation", "labelmap", voxel_size=sample.voxel_size[::-1], MaxDownresLevel=2)

gray[0:128, 0:128, 0:128] = sample.gray
seg[0:128, 0:128, 0:128] = sample.supervoxels
print("extents", gray.extents, "voxel size", gray.voxel_size, gray.voxel_units)

# %% Slicing as in numpy, but that a coordinate is a coordinate
section = gray[64]  # (128, 128)
coarse = gray[::4, ::4, ::4]  # (32, 32, 32)
outside = gray[-2:2, 0, 0]  # two voxels before the volume: -1 is not the last plane
assert section.shape == (128, 128) and coarse.shape == (32, 32, 32)
assert outside.tolist() == [0, 0, *sample.gray[:2, 0, 0].tolist()]

# %% Any box can be written; the voxels around it stay
gray[60:68, 60:68, 60:68] = 255 - gray[60:68, 60:68, 60:68]
assert gray[59, 64, 64] == sample.gray[59, 64, 64]

# %% Bodies are made of supervoxels
for body, (_, *others) in sample.bodies.items():
    if others:
        seg.merge(body, others)
largest = max(seg.bodies().tolist(), key=seg.size)
print(
    f"{len(seg.bodies())} bodies, the largest is {largest}: {seg.size(largest)} voxels in {len(seg.members(largest))}"
)
assert set(np.unique(seg.supervoxels[...][seg[...] == largest]).tolist()) == set(sample.bodies[largest])

# %% The shape of a body: runs of voxels (x, y, z, length) or a mask
runs = seg.sparsevol(largest)
assert runs[:, 3].sum() == seg.size(largest)
mask = seg[...] == largest
assert np.array_equal(kernels.from_mask(mask), runs)

# %% How bright is it inside? One scale coarser, the same question costs an eighth
print("mean gray", gray[...][mask].mean(), "of", sample.gray.mean())
print("at scale 1:", gray[::2, ::2, ::2][seg.scale(1)[...] == largest].mean())

# %% Notes beside the volumes
notes = first.create("notes", "keyvalue")
notes["todo"] = b"look at the largest body"
notes.update({f"body-{largest}": b"done", "author": b"me"})
print(dict(notes))

# %% Versions: what is committed never changes
first.commit("segmentation and bodies")
second = first.newversion()
trial = first.branch("trial")
other = next(body for body in sample.bodies if body != largest)
trial["segmentation"].merge(largest, other)
print("bodies:", len(second["segmentation"].bodies()), "and on the branch", len(trial["segmentation"].bodies()))
assert repo["trial"] == trial and repo["master~1"] == first
try:
    seg[0, 0, 0] = 1
except dvidcore.errors.Locked as error:
    print("refused:", error)

# %% What has no method has its endpoint
print(seg.request("GET", "sparsevol-size/" + str(largest)).decode())
db.close()
