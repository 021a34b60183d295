"""gradcli: the derivatives of saved neural networks, by several methods, each one measured."""

__version__ = "0.1.0"
