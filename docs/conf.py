"""Settings of the documentation: `make docs` writes build/docs, and an unresolved reference is an error."""

import dataclasses
import inspect
import re

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sphinx.util.typing import stringify_annotation

import mzprobe

project = "mzprobe"
release = version = mzprobe.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = "mzprobe"
html_copy_source = html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # [text](page.md#heading) works, and is checked

default_role = "code"  # docstrings write code in single backticks, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False

# A name of this package that is not found is an error, but for what is a planning model's own affair. Other packages'
# pages are elsewhere, and not asked for.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!mzprobe).*"),
    (r"py:class", r"mzprobe\.search\.models\.(Latent|State)Arena|mzprobe\.networks\.fused\.weights\.FusedWeights"),
    (r"py:class", r"mzprobe\.datasets\.storages\..*|mzprobe\.sources\.(core\.Source|foreign\.Adapter)"),
]


# Array types in words; spelt out they take lines.
ARRAYS = {stringify_annotation(ArrayLike, "smart"): "ArrayLike"}
ARRAYS |= {
    stringify_annotation(NDArray[kind], "smart"): f"NDArray[{kind.__name__}]"
    for kind in (np.float32, np.float64, np.int32, np.int64, np.bool_)
}


def _public_names() -> dict[str, str]:
    """Public names by where they are defined: `mzprobe.envs.core.Environment` is `mzprobe.Environment` here."""
    things = {name: getattr(mzprobe, name) for name in mzprobe.__all__}
    return {
        f"{thing.__module__}.{thing.__qualname__}": f"mzprobe.{name}"
        for name, thing in things.items()
        if hasattr(thing, "__qualname__")
    }


def shorten(app, what, name, thing, options, signature, returned):
    """Names array types in a signature."""
    for long, short in ARRAYS.items():
        signature, returned = (text and text.replace(long, short) for text in (signature, returned))
    return signature, returned


def describe_fields(app, what, name, thing, options, lines):
    """Adds what the comments beside the fields of a record say."""
    if what == "class" and (dataclasses.is_dataclass(thing) or hasattr(thing, "_fields")):
        fields = re.findall(r"^    (\w+): [^#\n]+  # (.+)$", inspect.getsource(thing), flags=re.MULTILINE)
        if fields:
            said = [f"    {field}: {words}".replace("*", r"\*") for field, words in fields]  # shapes, no emphasis
            lines += ["", "Attributes:", *said, ""]


def setup(app):
    """Leads references to where a public name is defined to its entry, and makes signatures and records readable."""
    public = _public_names()

    def resolve(app, env, node, contnode):
        target = public.get(node.get("reftarget"))
        if node.get("refdomain") != "py" or target is None:
            return None
        domain = env.get_domain("py")
        return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)

    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-signature", shorten)
    app.connect("autodoc-process-docstring", describe_fields, priority=100)  # before napoleon reads them
