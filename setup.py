"""Builds the Cython kernels; everything else about the package is in pyproject.toml.

``DVIDCORE_SANITIZE=1`` builds them with AddressSanitizer (see ``make sanitize``).
"""

import os
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

SANITIZE = os.environ.get("DVIDCORE_SANITIZE") == "1"
FLAGS = (
    ["-O1", "-g", "-fsanitize=address", "-fno-omit-frame-pointer"]
    if SANITIZE
    else ["-O3", "-g0", "-fno-strict-aliasing"]
)
LINK = ["-fsanitize=address"] if SANITIZE else []

extensions = [
    Extension(
        ".".join(path.relative_to("src").with_suffix("").parts),
        [str(path)],
        language="c++",
        include_dirs=[numpy.get_include(), str(path.parent)],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=["-std=c++17", *FLAGS],
        extra_link_args=LINK,
    )
    for path in sorted(Path("src").rglob("*.pyx"))
]

setup(
    options={"build_ext": {"parallel": os.cpu_count()}},
    ext_modules=cythonize(
        extensions,
        nthreads=os.cpu_count() or 1,
        language_level=3,
        include_path=["src"],
        compiler_directives={
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
            "freethreading_compatible": True,
        },
    ),
)
