"""The images that tests run, made from `images/*.Dockerfile`: with Docker where its engine runs, else with buildah.

`python -m e2e.images [NAME…]` makes them. What is made is kept: a change of our code makes a thin layer anew, no more.
"""

from .making import Node, ensure, make
from .recipes import RECIPES, Recipe

__all__ = ["RECIPES", "Node", "Recipe", "ensure", "make"]
