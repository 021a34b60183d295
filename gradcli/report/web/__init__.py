"""A comparison as one HTML file that needs nothing else: no network, no second file."""

from gradcli.report.web.page import LARGEST, html
from gradcli.report.web.svg import needed

__all__ = ["LARGEST", "html", "needed"]
