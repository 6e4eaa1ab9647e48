"""Maps the top-level folders tasks/ and models/ onto lra_bench.tasks and lra_bench.models.

A top-level package called `models` would collide with every research repository. The package list
is computed, so that a new family folder under models/ needs no packaging change.
"""

from setuptools import find_packages, setup

MAPPED = {"lra_bench.tasks": "tasks", "lra_bench.models": "models"}

packages = find_packages(include=["lra_bench", "lra_bench.*"])
for package, folder in MAPPED.items():
    packages += [package, *(f"{package}.{name}" for name in find_packages(folder))]

setup(
    packages=[*packages, "lra_bench.published"],
    package_dir={**MAPPED, "lra_bench.published": "results/published"},
)
