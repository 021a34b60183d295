"""What was found, as text: formatters return it and never print."""

from gradcli.report.arrays import derivative_text
from gradcli.report.checkforms import CHECK_FORMATS, checked
from gradcli.report.contrasted import contrast_text
from gradcli.report.contrastforms import CONTRAST_FORMATS, contrast_json, contrast_shown
from gradcli.report.encoding import encodable
from gradcli.report.exported import exported_text
from gradcli.report.formats import FORMATS, PICTURED, Dress, ready, shown
from gradcli.report.inspection import (
    coverage_json,
    coverage_markdown,
    coverage_text,
    inspection_json,
    inspection_text,
)
from gradcli.report.jsonform import comparison_json, derivative_json
from gradcli.report.markdown import capped
from gradcli.report.progress import Line
from gradcli.report.terminal import table
from gradcli.report.web import html

__all__ = [
    "CHECK_FORMATS",
    "CONTRAST_FORMATS",
    "FORMATS",
    "PICTURED",
    "Dress",
    "Line",
    "capped",
    "checked",
    "comparison_json",
    "contrast_json",
    "contrast_shown",
    "contrast_text",
    "coverage_json",
    "coverage_markdown",
    "coverage_text",
    "derivative_json",
    "derivative_text",
    "encodable",
    "exported_text",
    "html",
    "inspection_json",
    "inspection_text",
    "ready",
    "shown",
    "table",
]
